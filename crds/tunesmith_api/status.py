"""What has become of a job: the status subresource of the object in a cluster.

A local run keeps a record of its own, which holds manifest and store too; phase, failure, keys and results in it are
these same models.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from tunesmith_api.schema import Recorded, unless_empty
from tunesmith_api.stages import Failure, Figures, Kind, Stage, StageResult

# A key is a sha256 in hex, a name at most a Kubernetes name; messages as long as the API machinery's conditions allow.
Key = Annotated[str, Field(max_length=64)]
Name = Annotated[str, Field(max_length=253)]
Sentence = Annotated[str, Field(max_length=32_768)]


class Phase(StrEnum):
    """Where a job stands, for people; machines read conditions."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"


class StageState(StrEnum):
    """Where one stage stands."""

    WAITING = "Waiting"
    RUNNING = "Running"
    DONE = "Done"
    FAILED = "Failed"


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Recorded):
    """One condition as Kubernetes defines them (apimachinery metav1.Condition)."""

    type: Annotated[str, Field(max_length=316)]
    """The condition's name, for example Ready or Complete."""
    status: ConditionStatus
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=1024)]
    """Why, in one CamelCase word."""
    message: Sentence = ""
    """Why, in a sentence."""
    last_transition_time: datetime
    """Since when."""
    observed_generation: Annotated[int | None, Field(ge=0)] = None
    """The generation of the spec that it speaks of."""


class Progress(Recorded):
    """How far the running stage is."""

    stage: Stage | None = None
    """The stage."""
    percent: Annotated[int | None, Field(ge=0, le=100)] = None
    """How much of the whole job is done."""
    step: Annotated[int | None, Field(ge=0)] = None
    """The optimizer step that was reached, or the window of text."""
    steps: Annotated[int | None, Field(ge=0)] = None
    """How many there are."""
    loss: float | None = None
    """The training loss, averaged since the last report."""
    phase: Annotated[str | None, Field(max_length=40)] = None
    """What the stage is at: fetching, loading, training, storing, ..."""
    seconds_left: Annotated[float | None, Field(ge=0)] = None
    """The estimated time left, in seconds."""
    time: datetime | None = None
    """When this was reported."""


class Checkpoint(Recorded):
    """The newest whole checkpoint of a training that is not finished."""

    key: Key
    """train's key, under which the store has it."""
    step: Annotated[int, Field(ge=0)]
    """The optimizer step."""


class RecordedKeys(Recorded):
    """What is kept of a stage that has a Job or a result, so that a later plan leaves it as it is (contract 2)."""

    asked: Key
    """The fingerprint of what it was asked for: settings and input keys without the recipe (decision 0005)."""
    outputs: Annotated[dict[str, Key], Field(max_length=len(Kind))]
    """The key of each of its outputs by the output's kind."""


class StageStatus(Recorded):
    """One stage of the plan and what it found."""

    name: Name
    """Its name in the plan: the stage, and for quantize the type too (quantize-Q4_K_M)."""
    keys: RecordedKeys | None = None
    """What it was asked for, and what its outputs are stored under; unset before it has a Job."""
    state: StageState = StageState.WAITING
    """Where it stands."""
    turn: Annotated[int, unless_empty(ge=0)] = 0
    """How often it was begun anew: by a retry, with more memory, after an outage, to make or publish others."""
    replace: Annotated[bool, unless_empty()] = False
    """Whether it is to make its artifacts anew though they are in the store, since they were found damaged."""
    message: Annotated[Sentence, unless_empty()] = ""
    """What it waits for, in a sentence."""
    started: datetime | None = None
    """When its last attempt began."""
    finished: datetime | None = None
    """When it ended."""
    away_since: datetime | None = None
    """Since when its store does not answer, while it is tried again."""
    running_since: datetime | None = None
    """Since when its pod holds a GPU; unset while none does."""
    counted_until: datetime | None = None
    """Until when the time that its pods held a GPU is counted in gpuSeconds."""
    result: StageResult | None = None
    """What it found, or why it failed."""
    wanted: Key | None = None
    """What it failed for want of (memory, a Secret, an image), as a digest: with another it is begun anew."""


class StoreStatus(Recorded):
    """Where the job's artifacts are: what spec.store says, or the operator's default."""

    uri: Annotated[str, Field(max_length=1024)]
    """s3://bucket/prefix."""
    endpoint: Annotated[str | None, Field(max_length=512)] = None
    """The S3 service; unset: Amazon's."""
    region: Annotated[str | None, Field(max_length=64)] = None
    """The service's region."""
    secret: Name | None = None
    """The name of the Secret with accessKey and secretKey, in the job's namespace."""
    ca_secret: Name | None = None
    """The name of the Secret with ca.crt."""


class ArtifactStatus(Recorded):
    """One quantized model: a file that the job made. What its other stages made stands under their keys."""

    name: Name
    """The quantization type."""
    key: Key
    """What it is stored under."""
    verdict: Annotated[str, unless_empty(max_length=32)] = ""
    """What the gates say: Passed, Failed or Inconclusive; unset until publish has judged."""
    file: Annotated[str, Field(max_length=512)]
    """Its name in the published folder."""
    bytes: Annotated[int | None, Field(ge=0)] = None
    """Its size."""
    sha256: Annotated[Key, unless_empty()] = ""
    """Its digest."""
    figures: Annotated[Figures, unless_empty()] = Field(default_factory=dict)
    """Its headline figures."""


class JobStatus(Recorded):
    """What has become of a job."""

    observed_generation: Annotated[int | None, Field(ge=-1)] = None
    """The generation of the spec that this speaks of; -1 until an operator has seen the job."""
    phase: Phase = Phase.PENDING
    """Where the job stands, for people."""
    message: Sentence = ""
    """What is happening, in a sentence."""
    summary: Annotated[str, unless_empty(max_length=256)] = ""
    """How many of the files passed their gates, for example 3/3."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
        ),
    ] = ()
    """The same for machines."""
    progress: Progress | None = None
    """How far the running stage is."""
    stages: Annotated[
        tuple[StageStatus, ...],
        Field(
            max_length=64, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ] = ()
    """The stages of the plan and what they found."""
    resolved: Annotated[dict[str, Any] | None, Field(max_length=64)] = None
    """What the sources turned out to be, pinned for the life of the object."""
    store: StoreStatus | None = None
    """Where what was made is."""
    artifacts: Annotated[tuple[ArtifactStatus, ...], Field(max_length=128)] = ()
    """The files that were made."""
    checkpoint: Checkpoint | None = None
    """The newest whole checkpoint of a training that is not finished."""
    failure: Failure | None = None
    """Why the job failed."""
    retried: Annotated[str, unless_empty(max_length=253)] = ""
    """The value of the annotation tunesmith.dev/retry that was last acted on."""
    notified: Annotated[str, unless_empty(max_length=64)] = ""
    """The id of the last notification of the job that was taken by its receiver."""
    started: datetime | None = None
    """When the first stage began, or a retry: what spec.activeDeadlineSeconds counts from."""
    finished: datetime | None = None
    """When the job became Complete or Failed."""
    gpu_seconds: Annotated[float, unless_empty(ge=0)] = 0.0
    """For how many seconds its pods have held a GPU, those that failed included; what runs is counted when it ends."""
    cpu_seconds: Annotated[float, Field(ge=0)] = 0.0
    """The processor time of its stages, in seconds of one core; of attempts that were killed nothing is known."""
    suspended_since: datetime | None = None
    """Since when the job is suspended, while it is."""
    suspended_seconds: Annotated[float, unless_empty(ge=0)] = 0.0
    """How long it was suspended before, which spec.activeDeadlineSeconds does not count."""

    def recorded_keys(self) -> dict[str, RecordedKeys]:
        """What `make_plan` has to keep, by the stages' names."""
        return {stage.name: stage.keys for stage in self.stages if stage.keys is not None}
