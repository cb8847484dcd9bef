"""What each stage is told that changes what it makes: all of it is hashed into its key (contract 2).

What only changes where its sources are reached, how fast or in how much memory, is in `tunesmith_api.execution`.
"""

from typing import Annotated

from pydantic import Field

from tunesmith_api.schema import Api
from tunesmith_api.spec import (
    ChatFormat,
    Columns,
    EarlyStopping,
    Engine,
    Gates,
    Method,
    Metric,
    OnInvalidRows,
    OnTooLong,
    SystemPrompt,
)

# llama.cpp's imatrix and perplexity tools and all published figures use windows of 512 tokens
# (llama.cpp tools/perplexity/README.md); figures are only comparable at one length (P67).
CONTEXT_LENGTH = 512


class DatasetSettings(Api):
    """How one dataset is read; its bytes are named by `digest`."""

    digest: str
    config: str | None = None
    split: str | None = None
    format: ChatFormat = ChatFormat.AUTO
    columns: Columns | None = None
    weight: float = 1.0
    max_examples: int | None = None


class PrepareSettings(Api):
    """What determines the prepared dataset, beside the base model (its tokenizer and template)."""

    datasets: tuple[DatasetSettings, ...]
    evaluation: DatasetSettings | None = None
    evaluation_percent: float | None = None
    max_sequence_length: int
    system_prompt: SystemPrompt
    on_invalid_rows: OnInvalidRows
    on_too_long: OnTooLong
    seed: int
    family: str


class LoraSettings(Api):
    """The adapter's shape, every value resolved."""

    rank: int
    alpha: int
    dropout: float
    target_modules: tuple[str, ...]
    rs_lora: bool = False


class TrainSettings(Api):
    """What determines the trained weights, beside base and prepared dataset; every value resolved."""

    method: Method
    engine: Engine
    epochs: float
    max_steps: int | None = None
    max_sequence_length: int
    learning_rate: float
    scheduler: str
    warmup_ratio: float
    weight_decay: float
    optimizer: str
    effective_batch_size: int
    packing: bool
    seed: int
    eval_every: int | None = None
    keep_best: bool
    early_stopping: EarlyStopping | None = None
    lora: LoraSettings | None = None
    attention: str = "sdpa"
    start_adapter: str | None = None

    @property
    def fresh_targets(self) -> tuple[str, ...]:
        """The layers that get a new adapter; none where training goes on from one, which brings its own."""
        return () if self.lora is None or self.start_adapter is not None else self.lora.target_modules


class ConvertSettings(Api):
    """What determines the GGUF, beside base and adapter: the provenance that is written into its metadata.

    `base_source` is the model's URI where it means the same everywhere, else its name;
    `base_digest` and `dataset_digests` are ``sha256:...``.
    """

    base_source: str
    base_revision: str | None = None
    base_digest: str
    dataset_digests: tuple[str, ...]
    method: Method
    adapter_gguf: bool = True


class ImatrixSettings(Api):
    """How much of the calibration text is used, in windows of `context_length` tokens."""

    chunks: Annotated[int, Field(ge=1)]
    context_length: int = CONTEXT_LENGTH


class BaselineSettings(Api):
    """How much of the gate text is scored; the logits file is bounded by `max_bytes` (P65)."""

    chunks: int
    context_length: int = CONTEXT_LENGTH
    max_bytes: int


class AnswerSettings(Api):
    """Which held-out prompts are answered and how the answers are scored."""

    prompts: int
    metric: Metric
    max_new_tokens: int
    seed: int


class EvaluateSettings(Api):
    """Base against tuned: answers, loss on held-out answers, perplexity on `chunks` windows of general text."""

    answers: AnswerSettings
    chunks: int
    context_length: int = CONTEXT_LENGTH


class QuantizeSettings(Api):
    """One type of llama.cpp."""

    type: str
    answers: AnswerSettings
    context_length: int = CONTEXT_LENGTH


class HubSettings(Api):
    """Where a copy is pushed."""

    repo: str
    private: bool
    files: tuple[str, ...]
    secret: str | None = None


class DatasetOrigin(Api):
    """What the card says of a dataset: its `digest` (``sha256:...``), `uri` and `revision` if its address is public."""

    digest: str
    uri: str | None = None
    revision: str | None = None


class PublishSettings(Api):
    """What the published folder is called and what it has to pass."""

    job_name: str
    gates: Gates
    hub: HubSettings | None = None
    context_length: int
    system_prompt: SystemPrompt
    datasets: tuple[DatasetOrigin, ...] = ()
