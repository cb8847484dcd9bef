"""What whoever installs the operator decides: images, default store, where pods run, how patient it is.

One YAML file, which the chart renders from its values; every field has the default that the chart has.
"""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from tunesmith_api.placement import ObjectName, Placement
from tunesmith_api.schema import Api
from tunesmith_api.spec import Store
from tunesmith_api.stages import Stage

Image = Annotated[str, Field(min_length=1, max_length=512)]

_TRAINER = (Stage.PREPARE, Stage.TRAIN, Stage.CONVERT)


class Images(Api):
    """The images of the stages' pods."""

    trainer: Image = "ghcr.io/tunesmith/trainer:0.1.0"
    """Runs prepare, train and convert: it has torch."""
    gguf: Image = "ghcr.io/tunesmith/gguf:0.1.0"
    """Runs the other stages: it has llama.cpp's tools and no torch."""
    pull_policy: str = "IfNotPresent"
    """When the kubelet pulls them."""

    def of(self, stage: Stage) -> str:
        """The image that a stage runs in."""
        return self.trainer if stage in _TRAINER else self.gguf


class Network(Api):
    """How pods reach what is outside, where they cannot do so directly."""

    https_proxy: str | None = None
    """The proxy for https addresses."""
    http_proxy: str | None = None
    """The proxy for http addresses."""
    no_proxy: str | None = None
    """Hosts that are reached without it; the store's is one where it is inside the cluster."""
    hub_endpoint: str | None = None
    """A mirror of the model hub (HF_ENDPOINT)."""
    ca_config_map: ObjectName | None = None
    """A ConfigMap with the key ca.crt, in the job's namespace, of authorities to trust beside the public ones."""


class ProgressSettings(Api):
    """How stages' pods tell the operator how far they are; without `url` they do not."""

    url: str | None = None
    """Where pods reach the operator: its Service."""
    port: Annotated[int, Field(ge=1, le=65_535)] = 8443
    """Where the operator listens."""
    certificates: str | None = None
    """A folder with tls.crt, tls.key and, where no public authority has signed, ca.crt; without it plain HTTP."""


class Notifications(Api):
    """Who is told that a job is complete, has failed, or does not get on: CloudEvents over HTTP."""

    url: Annotated[str, Field(pattern=r"^https?://.+$", max_length=2048)]
    """Where they are posted to; seen by whoever may read the operator's ConfigMap."""
    key_file: str | None = None
    """A file with the key that they are signed with (whsec_ and base64, as Standard Webhooks has it)."""
    stuck_seconds: Annotated[int, Field(ge=60)] = 1800
    """After how long a stage that waits, or says nothing, is told of as stuck."""


class PriorityClasses(Api):
    """The PriorityClasses of the pods of jobs whose spec.priority is not 0; the chart makes them."""

    above: ObjectName
    """Of a job whose priority is above 0."""
    below: ObjectName
    """Of a job whose priority is below 0."""


class OperatorSettings(Api):
    """The operator's settings."""

    images: Images = Field(default_factory=Images)
    """The images of the stages' pods."""
    store: Store | None = None
    """The store of jobs that name none; its Secrets are looked for in the job's namespace."""
    network: Network = Field(default_factory=Network)
    """How pods reach what is outside."""
    progress: ProgressSettings = Field(default_factory=ProgressSettings)
    """How stages' pods tell how far they are."""
    placement: tuple[Placement, ...] = ()
    """Defaults of spec.stages, in its form: what a job says itself takes precedence."""
    metrics_port: Annotated[int, Field(ge=1, le=65_535)] = 8080
    """Where Prometheus and the kubelet's probes ask, by plain HTTP."""
    file_metrics: bool = False
    """Serve size and headline figures of each file of each job: three series a file, for some hundred jobs at most."""
    notifications: Notifications | None = None
    """Who is told how jobs end; without it nobody."""
    priority_classes: PriorityClasses | None = None
    """What spec.priority means to the scheduler; without it nothing."""
    gpu_resource: str = "nvidia.com/gpu"
    """The resource that a training asks for one of."""
    gpu_product_label: str = "nvidia.com/gpu.product"
    """The node label that training.gpu.product is compared with (NVIDIA's gpu-feature-discovery sets it)."""
    gpu_memory_label: str = "nvidia.com/gpu.memory"
    """The node label with a GPU's memory in MiB, that training.gpu.memory is compared with."""
    quantizations_at_once: Annotated[int, Field(ge=1, le=64)] = 2
    """How many quantize stages of one job run side by side."""
    image_patience_seconds: Annotated[int, Field(ge=0)] = 300
    """How long an image that cannot be pulled is waited for, and a pod that admission does not take."""
    store_patience_seconds: Annotated[int, Field(ge=0)] = 3600
    """How long a store that was there and is away is waited for."""
    keep_jobs_seconds: Annotated[int, Field(ge=0)] = 86_400
    """How long finished Jobs are kept after their job has ended."""

    @property
    def image_patience(self) -> timedelta:
        return timedelta(seconds=self.image_patience_seconds)

    @property
    def store_patience(self) -> timedelta:
        return timedelta(seconds=self.store_patience_seconds)

    @property
    def keep_jobs(self) -> timedelta:
        return timedelta(seconds=self.keep_jobs_seconds)
