"""In which number format the weights are held and computed with, from the method and what the device can do."""

from dataclasses import dataclass
from enum import StrEnum

from tunesmith_api.training import Method


class Device(StrEnum):
    """What computes."""

    CPU = "cpu"
    CUDA = "cuda"


# Rows up to this length are faster with plain matrix products than with torch's fused attention in bf16 on a CPU: 3
# times at 128 tokens, 2 times at 512, slower at 1,024 (measured, forward and backward, torch 2.13).
_PLAIN_ATTENTION_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Precision:
    """`weights` is how the base is loaded ("bfloat16" or "float32"); `autocast` computes fp32 weights in bf16."""

    weights: str
    autocast: bool = False


def precision(method: Method, device: Device, bf16: bool) -> Precision:
    """The number format for `method`; fp16 is never used (P19: it overflows in Gemma, and gains nothing here).

    Full fine-tuning keeps fp32 weights: steps in bf16 are rounded away and it hardly learns (measured: loss 1.26
    against 0.79 after four steps). On a GPU it computes in bf16 by autocast.
    """
    if method is Method.FULL:
        return Precision("float32", autocast=bf16 and device is Device.CUDA)
    if not bf16:
        return Precision("float32")
    return Precision("bfloat16", autocast=device is Device.CUDA)


def attention(wanted: str, device: Device, weights: str, longest_row: int) -> str:
    """Which of transformers' attention implementations computes `wanted`; all give the same but for rounding."""
    short = longest_row <= _PLAIN_ATTENTION_TOKENS
    if wanted == "sdpa" and device is Device.CPU and weights == "bfloat16" and short:
        return "eager"
    return wanted
