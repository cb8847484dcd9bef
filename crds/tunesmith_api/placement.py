"""What a manifest says about where a stage runs: `spec.stages[]`, in the shapes of Kubernetes' own PodSpec."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tunesmith_api.schema import Api

# Kubernetes' own limits: label names and values (63, prefix 253), object names (253), quantities
# (apimachinery pkg/api/resource/quantity.go).
LABEL_VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
OBJECT_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
QUANTITY = r"^\+?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)(([KMGTPE]i)|[munkMGTPE]|([eE][-+]?[0-9]+))?$"

# A number from 1 on with its unit: without one, or with Kubernetes' small ones, it is no memory that a GPU has.
GPU_MEMORY = r"^[1-9][0-9]*([.][0-9]+)?([MGT]i|[GT])$"

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=OBJECT_NAME)]
# A CRD cannot rule the keys of a map (CEL's cost estimate takes them for as long as a request): for those of a map this
# pattern is checked locally and by the operator, which reads with these same models.
LabelKey = Annotated[str, Field(min_length=1, max_length=317, pattern=LABEL_KEY)]
LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=32)]
Annotations = Annotated[dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=32)]


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# Kubernetes takes a quantity as a string or as a whole number (IntOrString); here it is a string from then on.
Quantity = Annotated[
    str,
    Field(min_length=1, max_length=32, pattern=QUANTITY),
    BeforeValidator(_as_text),
    Field(json_schema_extra={"x-kubernetes-int-or-string": True}),
]
Resources = Annotated[dict[LabelKey, Quantity], Field(max_length=16)]
# The suffixes of Kubernetes' quantities (apimachinery, resource.Quantity).
_SUFFIXES = {"m": Decimal("0.001"), "": Decimal(1)}
_SUFFIXES |= {letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)}
_SUFFIXES |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)}


def quantity_number(quantity: str) -> Decimal:
    """What a quantity that QUANTITY lets through stands for: ``24Gi``, ``1e9``, ``500m``."""
    suffix = quantity.lstrip("+-0123456789.")
    if suffix in _SUFFIXES:
        return Decimal(quantity.removesuffix(suffix)) * _SUFFIXES[suffix]
    return Decimal(quantity)


class SecretReference(Api):
    """A Secret in the job's own namespace (locally: a folder of that name)."""

    name: ObjectName
    """The name of the Secret."""


class Requirements(Api):
    """The resources of a stage's pod."""

    requests: Resources = Field(default_factory=dict)
    """What the node must have free, for example cpu: 4 and memory: 16Gi."""
    limits: Resources = Field(default_factory=dict)
    """What the pod may not exceed."""


class TolerationOperator(StrEnum):
    """How a toleration's key is compared."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Api):
    """A taint that the stage's pod accepts."""

    key: LabelKey | None = None
    """The taint's key; unset with operator Exists: every taint."""
    operator: TolerationOperator = TolerationOperator.EQUAL
    """Whether the value counts (Equal) or only the key (Exists)."""
    value: LabelValue | None = None
    """The taint's value."""
    effect: TaintEffect | None = None
    """The taint's effect; unset: every effect."""
    toleration_seconds: Annotated[int | None, Field(ge=0, le=31_536_000)] = None
    """How long the pod stays after a NoExecute taint appears."""


class SelectorOperator(StrEnum):
    """How a label's value is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


class SelectorRequirement(Api):
    """One condition on a label."""

    key: LabelKey
    """The label's name."""
    operator: SelectorOperator
    """How its value is compared."""
    values: Annotated[tuple[LabelValue, ...], Field(max_length=32)] = ()
    """The values to compare with."""


class NodeSelectorTerm(Api):
    """Conditions on a node that must all hold."""

    match_expressions: Annotated[tuple[SelectorRequirement, ...], Field(max_length=16)] = ()
    """Conditions on the node's labels."""
    match_fields: Annotated[tuple[SelectorRequirement, ...], Field(max_length=16)] = ()
    """Conditions on the node's fields, for example metadata.name."""


class NodeSelector(Api):
    """Terms of which one must hold."""

    node_selector_terms: Annotated[tuple[NodeSelectorTerm, ...], Field(min_length=1, max_length=16)]
    """The terms."""


class PreferredNodes(Api):
    """Nodes that are preferred."""

    weight: Annotated[int, Field(ge=1, le=100)]
    """How much the preference counts."""
    preference: NodeSelectorTerm
    """Which nodes."""


class NodeAffinity(Api):
    """Which nodes a pod needs or prefers."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    """The nodes that the pod needs."""
    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[PreferredNodes, ...], Field(max_length=16)
    ] = ()
    """The nodes that the pod prefers."""


class LabelSelector(Api):
    """Which objects are meant, by their labels."""

    match_labels: Labels = Field(default_factory=dict)
    """Labels with exactly these values."""
    match_expressions: Annotated[tuple[SelectorRequirement, ...], Field(max_length=16)] = ()
    """Conditions on labels."""


class PodTerm(Api):
    """Pods to be near to, or away from."""

    label_selector: LabelSelector | None = None
    """Which pods."""
    namespaces: Annotated[tuple[ObjectName, ...], Field(max_length=16)] = ()
    """Their namespaces; unset: the job's own."""
    topology_key: LabelKey
    """The node label whose equal value means near, for example kubernetes.io/hostname."""


class PreferredPods(Api):
    """Pods that are preferred near, or away."""

    weight: Annotated[int, Field(ge=1, le=100)]
    """How much the preference counts."""
    pod_affinity_term: PodTerm
    """Which pods."""


class PodAffinity(Api):
    """Which pods a pod needs or prefers near, or away from, itself."""

    required_during_scheduling_ignored_during_execution: Annotated[tuple[PodTerm, ...], Field(max_length=16)] = ()
    """The pods that count as a condition."""
    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[PreferredPods, ...], Field(max_length=16)
    ] = ()
    """The pods that count as a preference."""


class Affinity(Api):
    """Kubernetes' affinity of a pod."""

    node_affinity: NodeAffinity | None = None
    """Nodes to run on."""
    pod_affinity: PodAffinity | None = None
    """Pods to run near to."""
    pod_anti_affinity: PodAffinity | None = None
    """Pods to run away from."""


class Placement(Api):
    """Where one stage runs in a cluster and with what; ignored by local runs."""

    name: Literal["prepare", "train", "convert", "imatrix", "baseline", "evaluate", "quantize", "publish", "*"]
    """The stage, or * for every stage; what a stage says itself takes precedence over *."""
    resources: Requirements = Field(default_factory=Requirements)
    """Resources; unset: what 'tunesmith plan' estimates."""
    node_selector: Labels = Field(default_factory=dict)
    """Labels that the node must have."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] = ()
    """Taints that are accepted."""
    affinity: Affinity | None = None
    """Nodes and pods to be near to or away from."""
    priority_class_name: ObjectName | None = None
    """The pod's PriorityClass."""
    runtime_class_name: ObjectName | None = None
    """The pod's RuntimeClass."""
    service_account_name: ObjectName | None = None
    """The pod's service account; its token is not mounted."""
    image_pull_secrets: Annotated[tuple[SecretReference, ...], Field(max_length=8)] = ()
    """Secrets to pull the images with."""
    labels: Labels = Field(default_factory=dict)
    """Labels added to the stage's Job and pod, for example kueue.x-k8s.io/queue-name."""
    annotations: Annotations = Field(default_factory=dict)
    """Annotations added to the stage's Job and pod."""
