"""How many rows are in memory at once, and whether activations are computed twice: from the model's size and memory."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tunesmith_api.failures import FailureClass, StageFailure

# Activations that one layer keeps for the backward pass: 34 values per token and hidden unit (Korthikanti et al. 2022,
# arXiv 2205.05198, section 4.1); the adapters' inputs in fp32 double it (measured: 69 bytes for SmolLM2 in bf16).
_ACTIVATION_BYTES = 68
# With checkpointing a layer keeps its input only: one 16-bit value, or one of 32 bits with its gradient.
_CHECKPOINTED_BYTES = 8
# Logits: once as computed, once in fp32, once as fp32 gradient (transformers' ForCausalLMLoss).
_LOGITS_BYTES = 12
# Plain attention keeps its scores per head and pair of positions: in 16 bits, in fp32 for the softmax, and a gradient.
_SCORE_BYTES = 8
# What the estimates leave out: allocator slack, temporary buffers, the optimizer's first step. Our own choice, for
# which the ways to be wrong are weighed: too small a share only costs speed, too large a one the job, or where a GPU
# runs out of memory the first attempt (P26).
USABLE = 0.7
# More tokens at once are not faster: CPU throughput is flat from about 1,000 (measured on two cores), a GPU is busy
# with some 8,000 tokens of a small model.
_ENOUGH_TOKENS = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the estimate needs of config.json."""

    hidden: int
    layers: int
    heads: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Batching:
    """`micro` rows at once, `accumulation` times, make one optimizer step."""

    micro: int
    accumulation: int
    checkpointing: bool

    def halved(self) -> "Batching":
        """Half the rows at once, twice as often: the same step in less memory."""
        smaller = next(size for size in range(self.micro // 2, 0, -1) if (self.micro * self.accumulation) % size == 0)
        return replace(self, micro=smaller, accumulation=self.micro * self.accumulation // smaller)


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """The shape out of config.json; multimodal models keep the text model's under ``text_config``."""
    text = config.get("text_config", config)
    try:
        return ModelShape(
            text["hidden_size"], text["num_hidden_layers"], text["num_attention_heads"], text["vocab_size"]
        )
    except KeyError as error:
        raise StageFailure(FailureClass.MODEL_INVALID, f"the model's config.json lacks {error}") from error


def batching(
    shape: ModelShape,
    memory_bytes: int,
    longest_row: int,
    effective_batch: int,
    limits: "Limits",
) -> Batching:
    """The largest divisor of `effective_batch` that fits into `memory_bytes` free bytes; what the user chose stays.

    Without a choice activations are computed twice only where not even one row fits otherwise, since that costs a
    quarter of the speed. One row is always tried: what does not fit then fails as out of memory, with its own hint.
    """
    divisors = [size for size in range(effective_batch, 0, -1) if effective_batch % size == 0]
    for checkpointing in (False, True) if limits.checkpointing is None else (limits.checkpointing,):
        per_row = row_bytes(shape, longest_row, limits.attention, checkpointing)
        fitting = [size for size in divisors if size * per_row <= memory_bytes * USABLE]
        enough = [size for size in fitting if size * longest_row <= _ENOUGH_TOKENS[limits.device]] or fitting[-1:]
        if limits.micro is not None and (limits.micro in fitting or limits.checkpointing is not None):
            return Batching(limits.micro, effective_batch // limits.micro, checkpointing)
        if limits.micro is None and enough:
            return Batching(enough[0], effective_batch // enough[0], checkpointing)
    return Batching(limits.micro or 1, effective_batch // (limits.micro or 1), limits.checkpointing is not False)


@dataclass(frozen=True, slots=True)
class Limits:
    """What batches have to go by: device ("cpu", "cuda"), attention ("eager" keeps its scores), the user's choice."""

    device: str
    attention: str = "sdpa"
    micro: int | None = None
    checkpointing: bool | None = None


def row_bytes(shape: ModelShape, tokens: int, attention: str, checkpointing: bool) -> int:
    """Bytes that a row of so many tokens takes during training, beside the weights."""
    scores = shape.heads * tokens * _SCORE_BYTES if attention == "eager" else 0
    at_once = 1 if checkpointing else shape.layers
    kept = shape.hidden * _CHECKPOINTED_BYTES * shape.layers if checkpointing else 0
    return tokens * ((shape.hidden * _ACTIVATION_BYTES + scores) * at_once + kept + shape.vocabulary * _LOGITS_BYTES)
