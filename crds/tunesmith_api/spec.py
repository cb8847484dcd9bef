"""What a user writes: `FineTuneJob` and everything in its spec, apart from training, placement and status."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from tunesmith_api.fields import Field as ManifestField
from tunesmith_api.measuring import EVALUATION_PERCENT, Evaluation, Gates, Imatrix, ImatrixMode, Metric, OnFailure
from tunesmith_api.placement import DNS_LABEL, OBJECT_NAME, Placement, SecretReference
from tunesmith_api.quantizations import QUANTIZATIONS, QuantizationType
from tunesmith_api.rules import INSTEAD, Rule, immutable, rules
from tunesmith_api.schema import Api
from tunesmith_api.sources import ChatFormat, Columns, Dataset, HttpUrl, Model, same_rows
from tunesmith_api.status import JobStatus
from tunesmith_api.training import (
    EarlyStopping,
    Engine,
    Gpu,
    Lora,
    Method,
    Optimizer,
    Scheduler,
    SystemPrompt,
    SystemPromptMode,
    Training,
)

__all__ = [
    "API_VERSION",
    "EVALUATION_PERCENT",
    "KIND",
    "OBJECT_METADATA",
    "ChatFormat",
    "Columns",
    "Dataset",
    "EarlyStopping",
    "Engine",
    "Evaluation",
    "FineTuneJob",
    "Gates",
    "Gpu",
    "Hub",
    "Imatrix",
    "ImatrixMode",
    "JobSpec",
    "Lora",
    "Metadata",
    "Method",
    "Metric",
    "Model",
    "OnFailure",
    "OnInvalidRows",
    "OnTooLong",
    "Optimizer",
    "Placement",
    "Publish",
    "QuantizationType",
    "Scheduler",
    "SecretReference",
    "Store",
    "SystemPrompt",
    "SystemPromptMode",
    "Training",
]

API_VERSION = "tunesmith.dev/v1alpha1"
KIND = "FineTuneJob"

REPOSITORY = r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$"
# A bucket's name as S3 allows it (3 to 63 characters), then a prefix.
STORE_URI = r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?|file://.+)$"


class OnInvalidRows(StrEnum):
    """What becomes of rows that cannot be read as a conversation."""

    FAIL = "Fail"
    DROP = "Drop"


class OnTooLong(StrEnum):
    """What becomes of rows of more than training.maxSequenceLength tokens."""

    FAIL = "Fail"
    DROP = "Drop"
    TRUNCATE_TURNS = "TruncateTurns"


# The fields of Kubernetes' ObjectMeta (k8s.io/apimachinery, pkg/apis/meta/v1/types.go, since 1.24). selfLink is no
# longer filled in, and may still stand in a file.
OBJECT_METADATA = (
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
)


class Metadata(Api):
    """The object's metadata; of Kubernetes' many fields (`OBJECT_METADATA`) the ones that mean something here."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Field(min_length=1, max_length=40, pattern=DNS_LABEL)]
    """The job's name: a DNS label of at most 40 characters, since its Jobs' names begin with it (contract 6)."""
    namespace: Annotated[str | None, Field(max_length=63, pattern=DNS_LABEL)] = None
    """The job's namespace; locally the folder of the store, default if unset."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of the object."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations of the object."""


class Hub(Api):
    """A repository of a model hub that gets a copy."""

    repo: Annotated[str, Field(min_length=3, max_length=193, pattern=REPOSITORY)]
    """The repository: org/name."""
    private: bool = True
    """Whether a repository that is made is private."""
    files: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(min_length=1, max_length=32)
    ] = ("*",)
    """Which files of the published folder, as shell patterns; answers.jsonl, which has rows of the dataset, goes only
    where its own name is among them."""
    secret_ref: SecretReference | None = None
    """The Secret with the key token that may write to the repository."""


class Publish(Api):
    """Where the result goes beside the store."""

    hub: Hub | None = None
    """A repository of a model hub that gets a copy."""


class Store(Api):
    """Where artifacts live; credentials are the keys accessKey and secretKey of the Secret."""

    uri: Annotated[str, Field(min_length=6, max_length=1024, pattern=STORE_URI)]
    """s3://bucket/prefix, or file://folder for local runs."""
    endpoint: HttpUrl | None = None
    """The S3 service, for example https://minio.example.org:9000; unset: Amazon's."""
    region: Annotated[str | None, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9-]+$")] = None
    """The service's region."""
    ca_secret_ref: SecretReference | None = None
    """The Secret with the key ca.crt to trust the service by."""
    secret_ref: SecretReference | None = None
    """The Secret with the keys accessKey and secretKey."""


def _types_needing_imatrix() -> str:
    return ", ".join(f"'{name.value}'" for name, known in QUANTIZATIONS.items() if known.needs_imatrix)


_MAX_DATASETS = 16


_SPEC_RULES = (
    Rule(
        f"self.imatrix.mode != 'Never' || !self.quantizations.exists(t, t in [{_types_needing_imatrix()}])",
        "a quantization of this job cannot be made without an importance matrix: set imatrix.mode to Auto",
        field="imatrix",
    ),
    Rule(
        "!(has(self.model.adapter) && self.training.method == 'Full')",
        "method Full trains all weights and cannot go on from model.adapter: use LoRA or QLoRA, or None to merge it",
        field="training",
    ),
    Rule(
        "!(has(self.model.adapter) && has(self.training.lora)) || !(has(self.training.lora.rank) || "
        "has(self.training.lora.alpha) || has(self.training.lora.targetModules) || self.training.lora.rsLora)",
        "training goes on from model.adapter in the shape that it has: remove rank, alpha, targetModules and rsLora "
        "from training.lora (dropout may stay), or remove model.adapter to train a new one",
        field="training",
    ),
    Rule(
        # Not "i >= size(...) || (...)": cel-python evaluates both sides, for each of the 16 numbers.
        f"size(self.datasets) == size(oldSelf.datasets) && {list(range(_MAX_DATASETS))}.all(i, "
        f"i >= size(self.datasets) ? true : ({same_rows('self.datasets[i]', 'oldSelf.datasets[i]')}))",
        f"datasets cannot be changed once the job exists, apart from secretRef and endpoint: {INSTEAD}",
        field="datasets",
    ),
    *immutable("store", "onInvalidRows", "onTooLong"),
)


class JobSpec(Api):
    """What is wanted."""

    model_config = ConfigDict(json_schema_extra=rules(*_SPEC_RULES))

    model: Model
    """The base model."""
    datasets: Annotated[tuple[Dataset, ...], Field(min_length=1, max_length=_MAX_DATASETS)]
    """What the model learns from; with training.method None what it is measured and calibrated on."""
    evaluation: Evaluation = Field(default_factory=Evaluation)
    """What is held out of training, and how answers to it are scored."""
    training: Training = Field(default_factory=Training)
    """How the model is trained."""
    quantizations: Annotated[
        tuple[QuantizationType, ...],
        Field(min_length=1, max_length=len(QUANTIZATIONS), json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = (QuantizationType.Q4_K_M, QuantizationType.Q5_K_M, QuantizationType.Q8_0)
    """The GGUF types to make, as llama.cpp names them."""
    imatrix: Imatrix = Field(default_factory=Imatrix)
    """The importance matrix that low-bit quantizations use."""
    gates: Gates = Field(default_factory=Gates)
    """What each GGUF has to pass."""
    publish: Publish = Field(default_factory=Publish)
    """Where the result goes beside the store."""
    store: Store | None = None
    """Where artifacts live; unset: the operator's default, locally a folder in the user's cache."""
    stages: Annotated[
        tuple[Placement, ...],
        Field(
            max_length=9, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ] = ()
    """Where each stage runs in a cluster and with what."""
    targets: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=63, pattern=OBJECT_NAME)], ...],
        Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ()
    """Devices that the result shall run on. Not used yet: a later version chooses quantizations for them, until then
    name quantizations."""
    on_invalid_rows: OnInvalidRows = OnInvalidRows.FAIL
    """What becomes of rows that cannot be read: Fail names them, Drop counts them in the report."""
    on_too_long: OnTooLong = OnTooLong.DROP
    """What becomes of too long rows: Drop counts them in the report, TruncateTurns removes whole turns from the end,
    Fail names them. No conversation is ever cut inside an answer, since that would teach the model not to stop; a row
    of the format Text becomes consecutive pieces under TruncateTurns, of which only the last ends the text."""
    suspend: bool = False
    """Saves a checkpoint at the running step and stops; goes on when it is false again."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Above 0 its pods go before those of other jobs that wait for the same GPU, below 0 after them."""
    backoff_limit: Annotated[int, Field(ge=0, le=20)] = 3
    """How often a stage is tried again; evictions and other disruptions do not count."""
    active_deadline_seconds: Annotated[int | None, Field(ge=60, le=31_536_000)] = None
    """The longest time that the job may take from its first stage on while not suspended, waiting for a node or a queue
    included; unset: no limit."""
    ttl_seconds_after_finished: Annotated[int | None, Field(ge=0, le=315_360_000)] = None
    """The object (never what it made) is deleted so long after it has finished; unset: it stays."""

    def sources(self) -> dict[ManifestField, str]:
        """Every source that is named, by its field in the manifest."""
        held_out = self.evaluation.dataset
        found: dict[ManifestField, str | None] = {("spec", "model", "source"): self.model.source}
        found["spec", "model", "adapter"] = self.model.adapter
        found |= {("spec", "datasets", at, "source"): dataset.source for at, dataset in enumerate(self.datasets)}
        found["spec", "evaluation", "dataset", "source"] = None if held_out is None else held_out.source
        return {field: uri for field, uri in found.items() if uri is not None}


class FineTuneJob(Api):
    """A base model and a dataset, to be turned into measured GGUF files."""

    api_version: Literal["tunesmith.dev/v1alpha1"]
    """The version of the API."""
    kind: Literal["FineTuneJob"]
    """The kind of the object."""
    metadata: Metadata
    """Name, namespace, labels and annotations."""
    spec: JobSpec
    """What is wanted."""
    status: JobStatus | None = None
    """What has become of it; written by the operator."""
