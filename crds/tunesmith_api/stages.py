"""What a stage is asked to do and what it answers (contracts 1 and 5 of the design)."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from tunesmith_api.failures import FAILURES, FailureClass, StageFailure
from tunesmith_api.schema import Api, Recorded, unless_empty

SCHEMA_VERSION = 1

# A Kubernetes termination message holds 4,096 bytes (kubelet's limit); the design leaves room to spare.
RESULT_BYTES = 3_500

# Far more than a result of RESULT_BYTES has room for; a status of several results is bounded all the same.
Figures = Annotated[dict[str, Any], Field(max_length=256)]


class Stage(StrEnum):
    """One unit of work with one output, in the order of the data."""

    PREPARE = "prepare"
    TRAIN = "train"
    CONVERT = "convert"
    IMATRIX = "imatrix"
    BASELINE = "baseline"
    EVALUATE = "evaluate"
    QUANTIZE = "quantize"
    PUBLISH = "publish"


def stage_of(name: str) -> Stage | None:
    """The stage of a name in a plan: quantize for quantize-Q4_K_M; None for a name that is none."""
    kind = name.partition("-")[0]
    return next((stage for stage in Stage if stage == kind), None)


class Kind(StrEnum):
    """What an artifact holds; each kind has keys of its own."""

    BASE = "base"
    DATASET = "dataset"
    ADAPTER = "adapter"
    GGUF = "gguf"
    BASE_GGUF = "base-gguf"
    IMATRIX = "imatrix"
    LOGITS = "logits"
    EVALUATION = "evaluation"
    QUANTIZED = "quantized"
    PUBLICATION = "publication"


class StoreLocation(Api):
    """Where the store is; credentials come from the secret folder, never from here."""

    uri: str
    endpoint: str | None = None
    region: str | None = None
    secret: str | None = None
    ca_secret: str | None = None
    namespace: str = "default"


class ProgressEndpoint(Api):
    """Where a stage posts Kubeflow's trainer-status payload (contract 11).

    `ca_certificate` is the authority's certificate itself, as PEM, where no public one has signed.
    """

    url: str
    ca_certificate: str | None = None
    token_file: str | None = None


class JobReference(Api):
    """Whose work this is; never enters a key or a GGUF."""

    name: str
    namespace: str
    uid: str


class ArtifactReference(Api):
    """One input or output: its kind, its key, and which one where a stage reads several (a quantization type)."""

    kind: Kind
    key: str
    name: str | None = None


class StageRequest(Api):
    """One call of a stage: JSON in a file, or in a pod's annotation. Never a secret.

    On `metrics_port` it serves what it reports, for a Prometheus that looks while it runs.
    """

    schema_version: Literal[1] = 1
    stage: Stage
    job: JobReference
    store: StoreLocation
    inputs: tuple[ArtifactReference, ...] = ()
    outputs: tuple[ArtifactReference, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)
    execution: dict[str, Any] = Field(default_factory=dict)
    secrets: str | None = None
    progress: ProgressEndpoint | None = None
    metrics_port: int | None = None
    replace: bool = False


class Failure(Recorded):
    """Why a stage failed, for people and machines."""

    stage: Stage | None = None
    failure: Annotated[FailureClass, Field(alias="class")]
    message: str
    hint: str = ""
    retry_helps: bool = False
    artifact: ArtifactReference | None = None


class StageResult(Recorded):
    """What a stage found, small enough for a termination message: headline figures, digests, ids, never keys."""

    schema_version: int = SCHEMA_VERSION
    stage: Stage
    name: str | None = None
    reused: Annotated[bool, unless_empty()] = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    figures: Annotated[Figures, unless_empty()] = Field(default_factory=dict)
    failure: Failure | None = None


def fitting(result: StageResult) -> StageResult:
    """The result cut to RESULT_BYTES: the middle of a long message goes, then the figures, which the artifact has too.

    A tool's last lines say what was wrong and the first ones what was done; both are kept.
    """
    if _bytes_of(result) <= RESULT_BYTES:
        return result
    failure = result.failure
    if failure is None:
        return result.model_copy(update={"figures": {}})
    shell = result.model_copy(update={"figures": {}, "failure": failure.model_copy(update={"message": ""})})
    # A character takes up to 6 bytes as JSON escapes it or UTF-8 writes it: halve until it fits.
    room = max(RESULT_BYTES - _bytes_of(shell), 0)
    while True:
        message = _without_middle(failure.message, room)
        cut = shell.model_copy(update={"failure": failure.model_copy(update={"message": message})})
        if _bytes_of(cut) <= RESULT_BYTES or not room:
            return cut
        room //= 2


def _bytes_of(result: StageResult) -> int:
    return len(result.model_dump_json(by_alias=True, exclude_none=True).encode())


def _without_middle(text: str, length: int) -> str:
    mark = " […] "
    if len(text) <= length:
        return text
    half = max((length - len(mark)) // 2, 0)
    return text[:half] + mark + text[len(text) - half :] if half else ""


def failure_of(error: StageFailure, stage: Stage | None = None) -> Failure:
    """The record of a classified failure."""
    rule = FAILURES[error.failure]
    artifact = None
    if error.artifact is not None:
        artifact = ArtifactReference(kind=Kind(error.artifact[0]), key=error.artifact[1])
    return Failure(
        stage=stage,
        failure=error.failure,
        message=error.message,
        hint=error.hint,
        retry_helps=rule.retry_helps,
        artifact=artifact,
    )
