"""What a user writes: `FineTuneJob` and everything in its spec, apart from training, placement and status."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from tunesmith_api.placement import Placement, SecretReference
from tunesmith_api.quantizations import QUANTIZATIONS, QuantizationType
from tunesmith_api.rules import Rule, immutable, rules
from tunesmith_api.schema import Api
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
    "Scheduler",
    "SecretReference",
    "Store",
    "SystemPrompt",
    "SystemPromptMode",
    "Training",
]

API_VERSION = "tunesmith.dev/v1alpha1"
KIND = "FineTuneJob"

# The share of the rows that is held out where the manifest names neither percent nor a dataset.
EVALUATION_PERCENT = 10.0

_SCHEMES = r"^(hf://[^/ ]+/[^/ ]+|s3://[^/ ]+/.+|https://[^/ ]+/.+|pvc://[^/ ]+/.+|file://.+)$"
_SOURCE_RULES = (
    Rule(
        f"self.matches('{_SCHEMES}')",
        "a source is hf://org/name, s3://bucket/key, https://host/path, pvc://claim/path or file://path",
    ),
    Rule(
        r"!self.matches('(^|/)[.][.](/|$)')",
        "a source must not climb out of its folder with '..'",
    ),
)
SourceUri = Annotated[str, Field(min_length=6, max_length=1024, json_schema_extra=rules(*_SOURCE_RULES))]
HttpUrl = Annotated[str, Field(min_length=8, max_length=512, pattern=r"^https?://[^/ ]+(/[^ ]*)?$")]
Template = Annotated[str, Field(min_length=1, max_length=8192)]


class ChatFormat(StrEnum):
    """How a row holds its conversation."""

    AUTO = "Auto"
    MESSAGES = "Messages"
    SHAREGPT = "ShareGPT"
    ALPACA = "Alpaca"
    PROMPT_COMPLETION = "PromptCompletion"
    TEXT = "Text"


class Metric(StrEnum):
    """How answers to held-out prompts are scored."""

    LOSS = "Loss"
    EXACT_MATCH = "ExactMatch"
    LABELS = "Labels"
    CHRF = "ChrF"


class ImatrixMode(StrEnum):
    """When an importance matrix is made."""

    AUTO = "Auto"
    ALWAYS = "Always"
    NEVER = "Never"


class OnFailure(StrEnum):
    """What becomes of a file that fails a gate."""

    WITHHOLD = "Withhold"
    PUBLISH = "Publish"


class OnInvalidRows(StrEnum):
    """What becomes of rows that cannot be read as a conversation."""

    FAIL = "Fail"
    DROP = "Drop"


class OnTooLong(StrEnum):
    """What becomes of rows of more than training.maxSequenceLength tokens."""

    FAIL = "Fail"
    DROP = "Drop"
    TRUNCATE_TURNS = "TruncateTurns"


class Metadata(Api):
    """The object's metadata; of Kubernetes' many fields the ones that mean something here."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    """The job's name: a DNS label of at most 40 characters, since its Jobs' names begin with it (contract 6)."""
    namespace: Annotated[str | None, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] = None
    """The job's namespace; locally the folder of the store, default if unset."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of the object."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations of the object."""


class Model(Api):
    """The base model."""

    model_config = ConfigDict(json_schema_extra=rules(*immutable("source", "revision", "adapter")))

    source: SourceUri
    """Where the model is: hf://org/name, s3://bucket/prefix, https://, pvc://claim/path or file://path."""
    revision: Annotated[str | None, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")] = (
        None
    )
    """The branch, tag or commit of an hf:// source; unset: its main branch as it is when the job is made."""
    adapter: SourceUri | None = None
    """A LoRA adapter that training goes on from, or that with training.method None is merged as it is."""
    secret_ref: SecretReference | None = None
    """The Secret with the key token, or accessKey and secretKey, to read the model and the adapter with."""


class Columns(Api):
    """Which column of a row holds what: a column's name, or a Jinja text with columns in it."""

    prompt: Template | None = None
    """What the user says, for example question or "{{ title }}: {{ body }}"."""
    completion: Template | None = None
    """What the model shall answer."""
    system: Template | None = None
    """The system prompt."""


class Dataset(Api):
    """One set of rows to learn from."""

    source: SourceUri
    """Where the rows are: JSONL, JSON, CSV or Parquet."""
    config: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    """The configuration of an hf:// dataset that has several."""
    split: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    """The split of an hf:// dataset; unset: train, or the only one."""
    format: ChatFormat = ChatFormat.AUTO
    """How a row holds its conversation; Auto finds out from the columns."""
    columns: Columns | None = None
    """The columns, where they are called otherwise than the format expects."""
    weight: Annotated[float, Field(ge=0.001, le=1000)] = 1.0
    """How often the rows are seen compared with those of the other datasets."""
    max_examples: Annotated[int | None, Field(ge=1, le=1_000_000_000)] = None
    """Takes so many rows at most, chosen by the seed."""
    endpoint: HttpUrl | None = None
    """The S3 service of an s3:// source; unset: the store's, or else what the environment names."""
    secret_ref: SecretReference | None = None
    """The Secret with the key token, or accessKey and secretKey, to read the rows with."""


class Evaluation(Api):
    """What is held out of training, and how answers to it are scored."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!(has(self.dataset) && has(self.percent))",
                "name either a dataset or a percent of the training rows, not both",
                field="percent",
            ),
            *immutable("percent"),
        )
    )

    dataset: Dataset | None = None
    """A dataset of its own to hold out."""
    percent: Annotated[float | None, Field(ge=0.1, le=50)] = None
    """The share of the rows to hold out; 10 where no dataset is named either."""
    prompts: Annotated[int, Field(ge=1, le=10_000)] = 50
    """How many held-out prompts base, tuned and quantized models answer."""
    metric: Metric = Metric.LOSS
    """How the answers are scored: by their Loss alone, or by ExactMatch, Labels or ChrF too."""


class Imatrix(Api):
    """The importance matrix that low-bit quantizations use."""

    mode: ImatrixMode = ImatrixMode.AUTO
    """Auto makes one if a type of the job gains from it (4 bits and fewer)."""
    chunks: Annotated[int, Field(ge=1, le=10_000)] = 100
    """How many windows of 512 tokens of the calibration part it is made from."""


class Gates(Api):
    """What each GGUF has to pass; judged on the upper end of the error bar. The baseline is the bf16 GGUF."""

    max_perplexity_increase: Annotated[float, Field(ge=0, le=10_000)] = 0.5
    """By how much perplexity may rise."""
    ideal_perplexity_increase: Annotated[float, Field(ge=0, le=10_000)] = 0.1
    """A rise of more than this is passed with a remark."""
    max_log_perplexity_increase: Annotated[float, Field(ge=0, le=100)] = 0.1
    """By how much the mean logarithm of perplexity may rise (a tuned model's perplexity may be 2)."""
    max_kl_divergence: Annotated[float | None, Field(alias="maxKLDivergence", ge=0, le=100)] = None
    """The highest mean KL divergence from the baseline; unset: not judged."""
    min_same_top: Annotated[float | None, Field(ge=0, le=1)] = None
    """The least share of tokens whose most likely next token is the baseline's; unset: not judged."""
    min_answers_stopped: Annotated[float, Field(ge=0, le=1)] = 0.95
    """The least share of answers that end by themselves."""
    min_score_gain: Annotated[float | None, Field(ge=-1, le=1)] = None
    """By how much the tuned model's score must exceed the base model's; unset: not judged."""
    on_failure: OnFailure = OnFailure.WITHHOLD
    """Withhold keeps a file that failed back and ends the job Failed; Publish publishes it with a mark."""


class Hub(Api):
    """A repository of a model hub that gets a copy."""

    repo: Annotated[str, Field(min_length=3, max_length=193, pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
    """The repository: org/name."""
    private: bool = True
    """Whether a repository that is made is private."""
    files: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(min_length=1, max_length=32)
    ] = ("*",)
    """Which files of the published folder, as shell patterns."""
    secret_ref: SecretReference | None = None
    """The Secret with the key token that may write to the repository."""


class Publish(Api):
    """Where the result goes beside the store."""

    hub: Hub | None = None
    """A repository of a model hub that gets a copy."""


class Store(Api):
    """Where artifacts live; credentials are the keys accessKey and secretKey of the Secret."""

    uri: Annotated[
        str, Field(min_length=6, max_length=1024, pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?|file://.+)$")
    ]
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


# Every field of a dataset that says what its rows are; endpoint and secretRef only say how to reach them (contract 8).
_ROWS = ("source", "config", "split", "format", "columns", "weight", "maxExamples")
_MAX_DATASETS = 16


def _same_rows(new: str, old: str) -> str:
    return " && ".join(
        f"has({new}.{field}) == has({old}.{field}) && (!has({new}.{field}) || {new}.{field} == {old}.{field})"
        for field in _ROWS
    )


_SPEC_RULES = (
    Rule(
        f"self.imatrix.mode != 'Never' || !self.quantizations.exists(t, t in [{_types_needing_imatrix()}])",
        "a quantization of this job cannot be made without an importance matrix: set imatrix.mode to Auto",
        field="imatrix",
    ),
    Rule(
        f"size(self.datasets) == size(oldSelf.datasets) && {list(range(_MAX_DATASETS))}.all(i, "
        f"i >= size(self.datasets) || ({_same_rows('self.datasets[i]', 'oldSelf.datasets[i]')}))",
        "datasets cannot be changed once the job exists, apart from secretRef and endpoint: make a new job",
        field="datasets",
    ),
    Rule(
        "has(self.evaluation.dataset) == has(oldSelf.evaluation.dataset) && (!has(self.evaluation.dataset) || "
        f"({_same_rows('self.evaluation.dataset', 'oldSelf.evaluation.dataset')}))",
        "evaluation.dataset cannot be changed once the job exists, apart from secretRef and endpoint: make a new job",
        field="evaluation",
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
        tuple[Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")], ...],
        Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ()
    """Devices that the result shall run on, by their names in the reference."""
    on_invalid_rows: OnInvalidRows = OnInvalidRows.FAIL
    """What becomes of rows that cannot be read: Fail names them, Drop counts them in the report."""
    on_too_long: OnTooLong = OnTooLong.DROP
    """What becomes of too long rows: Drop counts them in the report, TruncateTurns removes whole turns from the end,
    Fail names them. No row is ever cut inside an answer, since that would teach the model not to stop."""
    suspend: bool = False
    """Stops after the next checkpoint, and goes on when it is false again."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Of jobs that wait for the same GPU the highest goes first."""
    backoff_limit: Annotated[int, Field(ge=0, le=20)] = 3
    """How often a stage is tried again; evictions and other disruptions do not count."""
    active_deadline_seconds: Annotated[int | None, Field(ge=60, le=31_536_000)] = None
    """The longest time that the job may take while not suspended; unset: no limit."""
    ttl_seconds_after_finished: Annotated[int | None, Field(ge=0, le=315_360_000)] = None
    """The object (never what it made) is deleted so long after it has finished; unset: it stays."""


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
