"""What a manifest says about training: `spec.training`."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from tunesmith_api.placement import GPU_MEMORY
from tunesmith_api.rules import INSTEAD, Rule, immutable, rules
from tunesmith_api.schema import Api


class Method(StrEnum):
    """What is trained."""

    LORA = "LoRA"
    QLORA = "QLoRA"
    FULL = "Full"
    NONE = "None"


class Engine(StrEnum):
    """What trains."""

    AUTO = "Auto"
    UNSLOTH = "Unsloth"
    TRANSFORMERS = "Transformers"


class Scheduler(StrEnum):
    """How the learning rate moves after the warm-up."""

    LINEAR = "Linear"
    COSINE = "Cosine"
    CONSTANT = "Constant"


class Optimizer(StrEnum):
    """What turns gradients into steps."""

    AUTO = "Auto"
    ADAMW = "AdamW"
    ADAMW_8BIT = "AdamW8bit"
    PAGED_ADAMW_8BIT = "PagedAdamW8bit"
    ADAFACTOR = "Adafactor"


class SystemPromptMode(StrEnum):
    """What becomes of system prompts."""

    KEEP = "Keep"
    NONE = "None"
    TEXT = "Text"


# A card that is sold as 24 GB shows less: error correction takes a sixteenth and the driver some (NVIDIA's A10 shows
# 22,731 MiB, the L4 23,034; their node labels say the same).
GPU_SHOWN_SHARE = 0.9


class Gpu(Api):
    """The GPU that training needs; named by its product or by the memory that it must have."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "has(self.product) != has(self.memory)",
                "name either product or memory, not both and not neither (for any GPU at all: memory: 1Gi)",
            )
        )
    )

    product: Annotated[
        str | None, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
    ] = None
    """The product as NVIDIA's feature discovery names it in the node label nvidia.com/gpu.product."""
    memory: Annotated[str | None, Field(min_length=2, max_length=32, pattern=GPU_MEMORY)] = None
    """The least memory of the GPU as it is sold, with its unit (Mi, Gi, Ti, G or T), for example 24Gi. One that shows a
    tenth less is taken."""
    count: Annotated[
        int,
        Field(
            ge=1,
            le=64,
            json_schema_extra=rules(
                Rule(
                    "self == 1",
                    "this version trains on one GPU: set count to 1 or leave it out, or choose a larger GPU",
                )
            ),
        ),
    ] = 1
    """How many GPUs; this version trains on one and refuses more."""


class SystemPrompt(Api):
    """What becomes of the system prompts of the dataset's rows."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "self.mode != 'Text' || has(self.text)",
                "mode Text needs a text: write it, or choose another mode",
                field="text",
            ),
            Rule(
                "self.mode == 'Text' || !has(self.text)",
                "text is for mode Text only: add mode: Text, or remove text",
                field="text",
            ),
        )
    )

    mode: SystemPromptMode = SystemPromptMode.KEEP
    """Keep leaves every row as it is, None removes system prompts, Text puts `text` in the place of each."""
    text: Annotated[str | None, Field(min_length=1, max_length=16384)] = None
    """The system prompt of every row; it is also written into the Modelfile."""


class EarlyStopping(Api):
    """When training ends before its last step."""

    patience: Annotated[int, Field(ge=1, le=100)] = 3
    """Training stops after so many evaluations in a row that did not improve."""
    min_improvement: Annotated[float, Field(ge=0, le=10)] = 0.0
    """By how much the evaluation loss has to fall to count as an improvement."""


class Lora(Api):
    """The shape of the adapter; only for the methods LoRA and QLoRA, and with model.adapter only dropout."""

    rank: Annotated[int | None, Field(ge=1, le=512)] = None
    """The rank of the adapter's matrices; unset: the family's (16 for most)."""
    alpha: Annotated[int | None, Field(ge=1, le=2048)] = None
    """The adapter is scaled by alpha / rank; an integer, as Ollama requires. Unset: the family's, in its ratio to
    the family's rank."""
    dropout: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """The share of the adapter's inputs that is dropped in training; 0 is fastest."""
    target_modules: (
        Annotated[
            tuple[Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.]+$")], ...],
            Field(min_length=1, max_length=32),
        ]
        | None
    ) = None
    """The linear layers that get an adapter, by the end of their names; unset: the family's (all linear layers)."""
    rs_lora: bool = False
    """Scale by alpha / sqrt(rank) instead, which keeps high ranks stable."""


# What only says where, how fast or how safely training runs; all else enters train's key (contracts 2 and 8).
MUTABLE = ("gpu", "batchSize", "gradientCheckpointing", "saveEvery")

_IMMUTABLE = (
    "method",
    "engine",
    "epochs",
    "maxSteps",
    "maxSequenceLength",
    "learningRate",
    "scheduler",
    "warmupRatio",
    "weightDecay",
    "optimizer",
    "effectiveBatchSize",
    "packing",
    "systemPrompt",
    "seed",
    "evalEvery",
    "keepBest",
    "earlyStopping",
    "lora",
)

_RULES = (
    Rule(
        "self.method == 'LoRA' || self.method == 'QLoRA' || !has(self.lora)",
        "lora is only for the methods LoRA and QLoRA: remove it or change method",
        field="lora",
    ),
    Rule(
        # Of a larger batchSize it is no multiple either.
        "!has(self.batchSize) || self.effectiveBatchSize % self.batchSize == 0",
        "effectiveBatchSize (16 where it is not written) must be a multiple of batchSize, the part of it that is in "
        "memory at once: raise effectiveBatchSize to a multiple, or lower batchSize to a divisor",
        field="batchSize",
    ),
    Rule(
        "(self.engine != 'Auto' && (self.optimizer != 'Auto' || self.method != 'QLoRA')) || "
        "has(self.gpu) == has(oldSelf.gpu)",
        "gpu decides which engine trains where engine is Auto, and which optimizer where that is Auto with QLoRA, "
        f"so it can be neither added nor removed: {INSTEAD}",
        field="gpu",
    ),
    *immutable(*_IMMUTABLE),
)


class Training(Api):
    """How the model is trained; what is left out comes from the family's data or is chosen for the machine."""

    model_config = ConfigDict(json_schema_extra=rules(*_RULES))

    method: Method = Method.LORA
    """LoRA trains an adapter, QLoRA the same over 4-bit weights, Full all weights; None trains nothing."""
    engine: Engine = Engine.AUTO
    """Auto is Unsloth where a GPU is asked for and the family allows it, else Transformers."""
    gpu: Gpu | None = None
    """The GPU to train on; unset: the CPU in a cluster, on one machine a GPU if there is one that works."""
    epochs: Annotated[float | None, Field(gt=0, le=1000)] = None
    """How often every row is seen; unset: the family's (3 for most). maxSteps takes precedence."""
    max_steps: Annotated[int | None, Field(ge=1, le=10_000_000)] = None
    """Ends training after so many optimizer steps, whatever epochs says."""
    max_sequence_length: Annotated[int, Field(ge=16, le=1_048_576)] = 2048
    """The longest row in tokens (onTooLong says what happens to longer ones); at most what the model can read."""
    learning_rate: Annotated[float | None, Field(gt=0, le=1)] = None
    """The highest learning rate; unset: the family's for this method."""
    scheduler: Scheduler = Scheduler.COSINE
    """How the learning rate falls after the warm-up: to zero in a Cosine or in a line (Linear), or not at all."""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] = 0.03
    """The share of the steps in which the learning rate rises from zero (0.03: the QLoRA paper, appendix B.2)."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How strongly trained weights are drawn to zero; an adapter rarely needs it."""
    optimizer: Optimizer = Optimizer.AUTO
    """Auto is PagedAdamW8bit for QLoRA on a GPU, else AdamW."""
    effective_batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    """How many rows make one optimizer step, however many fit into memory at once; at most all that there are."""
    batch_size: Annotated[int | None, Field(ge=1, le=4096)] = None
    """How many rows are in memory at once (fewer where a GPU's memory does not suffice), which changes no result but
    for rounding and what lora.dropout drops; unset: chosen for the machine."""
    gradient_checkpointing: bool | None = None
    """Computes activations twice to hold fewer of them (slower by a quarter); unset: chosen for the machine."""
    packing: bool = False
    """Lays the rows that are in memory at once out in one sequence instead of filling short ones up. They do not see
    each other; it is left out for a model that does not keep them apart."""
    system_prompt: SystemPrompt = Field(default_factory=SystemPrompt)
    """What becomes of the system prompts of the dataset's rows."""
    seed: Annotated[int, Field(ge=0, le=2_147_483_647)] = 42
    """Decides the split, the order of the rows and the adapter's first weights."""
    eval_every: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """The loss on held-out rows is measured every so many steps; unset: up to ten times, in a tenth of the time."""
    save_every: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """A checkpoint is stored every so many steps; unset: chosen from how long a step takes."""
    keep_best: bool = False
    """Ends with the weights of the lowest evaluation loss instead of the last ones."""
    early_stopping: EarlyStopping | None = None
    """Ends training when the evaluation loss no longer falls; without it training runs to its last step."""
    lora: Lora | None = None
    """The shape of the adapter; unset values come from the family, with model.adapter from that (but dropout)."""
