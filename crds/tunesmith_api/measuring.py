"""What is measured and what has to be reached: `spec.evaluation`, `spec.imatrix` and `spec.gates`."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from tunesmith_api.rules import INSTEAD, Rule, rules
from tunesmith_api.schema import Api
from tunesmith_api.sources import Dataset, same_rows

# Windows of 512 tokens for perplexity and KL divergence: below 32 noise exceeds what is measured (llama.cpp PR 7150).
GATE_CHUNKS = 40
# The gate text has no more: the error of a paired difference gains little beyond (llama.cpp PR 7150; P66).
MOST_GATE_CHUNKS = 100
# What imatrix cards recommend at the least (P55), and all that the calibration text holds: half of it the user's rows.
CALIBRATION_CHUNKS = 100
# The most windows of general text: base and tuned model are compared window by window, so that a rise of some percent
# stands out of its error with a dozen (measured with SmolLM2: an error of 0.006 in the mean logarithm).
FORGETTING_CHUNKS = 12

# What a good file's rise in perplexity stays below, where neither the manifest nor its maxPerplexityIncrease says less.
IDEAL_PERPLEXITY_INCREASE = 0.1

# The share of the rows that is held out where the manifest names neither percent nor a dataset.
EVALUATION_PERCENT = 10.0


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


class Evaluation(Api):
    """What is held out of training, and how answers to it are scored."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!(has(self.dataset) && has(self.percent))",
                "name either a dataset or a percent of the training rows, not both",
                field="percent",
            ),
            Rule(
                "has(self.dataset) == has(oldSelf.dataset) && "
                f"(!has(self.dataset) || ({same_rows('self.dataset', 'oldSelf.dataset')}))",
                f"dataset cannot be changed once the job exists, apart from secretRef and endpoint: {INSTEAD}",
                field="dataset",
            ),
            # The default may be written out later.
            Rule(
                f"(has(self.percent) ? self.percent : {EVALUATION_PERCENT}) == "
                f"(has(oldSelf.percent) ? oldSelf.percent : {EVALUATION_PERCENT})",
                f"percent cannot be changed once the job exists, since what it makes depends on it: {INSTEAD}",
                field="percent",
            ),
        )
    )

    dataset: Dataset | None = None
    """A dataset of its own to hold out; the same fields as an entry of spec.datasets."""
    percent: Annotated[float | None, Field(gt=0, le=50)] = None
    """The share of the rows to hold out; 10 where no dataset is named either. Half as many again go to the gates' text.
    The least is 28 different prompts: 16 to train on, 8 to hold out, 4 for the gates."""
    prompts: Annotated[int, Field(ge=1, le=10_000)] = 50
    """How many held-out prompts base, tuned and quantized models answer."""
    metric: Metric = Metric.LOSS
    """How the answers are scored: by their Loss alone, or by ExactMatch, Labels or ChrF too."""
    chunks: Annotated[int, Field(ge=2, le=MOST_GATE_CHUNKS)] = GATE_CHUNKS
    """On how many windows of 512 tokens perplexity and KL divergence are measured. Fewer take less time and have wider
    error bars. General text fills up to 40, more take answers of the gate's rows; at most what 6 GiB of logits hold (48
    with a vocabulary of 262,144)."""


class Imatrix(Api):
    """The importance matrix that low-bit quantizations use."""

    mode: ImatrixMode = ImatrixMode.AUTO
    """Auto makes one if a type of the job gains from it (5 bits and fewer)."""
    chunks: Annotated[int, Field(ge=1, le=CALIBRATION_CHUNKS)] = CALIBRATION_CHUNKS
    """How many windows of 512 tokens of the calibration part it is made from. That part holds up to 50 of the training
    rows and about 50 of general text: with few rows there are fewer, and the report says how many."""


class Gates(Api):
    """What each GGUF has to pass; judged on the upper end of the error bar. The baseline is the bf16 GGUF."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.idealPerplexityIncrease) || self.idealPerplexityIncrease <= self.maxPerplexityIncrease",
                "idealPerplexityIncrease is the better of the two and cannot exceed maxPerplexityIncrease (0.5 where "
                "that is not written): lower it, or leave it out",
                field="idealPerplexityIncrease",
            )
        )
    )

    max_perplexity_increase: Annotated[float, Field(ge=0, le=10_000)] = 0.5
    """By how much perplexity may rise."""
    ideal_perplexity_increase: Annotated[float | None, Field(ge=0, le=10_000)] = None
    """What a good file keeps to; a larger rise passes too, and report.json says so (`ideal` of the gate); unset: 0.1,
    or maxPerplexityIncrease where that is less."""
    max_log_perplexity_increase: Annotated[float, Field(ge=0, le=100)] = 0.1
    """By how much the mean logarithm of perplexity may rise (a tuned model's perplexity may be 2)."""
    max_kl_divergence: Annotated[float | None, Field(alias="maxKLDivergence", ge=0, le=100)] = None
    """The highest mean KL divergence from the baseline; unset: not judged."""
    min_same_top: Annotated[float | None, Field(ge=0, le=1)] = None
    """The least share of tokens whose most likely next token is the baseline's; unset: not judged."""
    max_score_drop: Annotated[float, Field(ge=0, le=1)] = 0.1
    """By how much the score on held-out prompts may fall below the tuned model's; not judged with the metric Loss."""
    max_loss_increase: Annotated[float, Field(ge=0, le=100)] = 0.1
    """By how much the loss of the held-out answers may rise above the tuned model's, in nats per token."""
    min_answers_clean: Annotated[float, Field(ge=0, le=1)] = 0.95
    """The least share of answers that say something, end by themselves, show no markup and do not go in circles."""
    min_score_gain: Annotated[float | None, Field(ge=-1, le=1)] = None
    """By how much the tuned model's score must exceed the base model's (it judges the job, no file is withheld for it);
    unset: not judged."""
    on_failure: OnFailure = OnFailure.WITHHOLD
    """Withhold keeps a file that failed back and ends the job Failed; Publish publishes it with a mark."""

    @property
    def ideal_that_holds(self) -> float:
        """The ideal rise in perplexity, written or not."""
        written = self.ideal_perplexity_increase
        return min(IDEAL_PERPLEXITY_INCREASE, self.max_perplexity_increase) if written is None else written
