"""What would fit a GPU whose memory did not suffice: the hint of OutOfMemoryGPU, from the estimates of `batching`."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from tunesmith_api.training import Method
from tunesmith_trainer.engines.batching import USABLE, Batching, ModelShape, row_bytes

# Lengths are told in such steps: an estimate is no more exact, and kernels like multiples of 64.
_STEP = 64


@dataclass(frozen=True, slots=True)
class Room:
    """The model, its attention, the free bytes beside its weights by method, and the longest row that was tried."""

    shape: ModelShape
    attention: str
    free: Mapping[Method, int]
    longest: int


def what_fits(room: Room, method: Method, tried: Batching) -> str:
    """What to change, in order of how little it changes; what a GPU of more memory alone would help says so."""
    alone = tried.micro == 1 and tried.checkpointing
    if not alone and longest_row(room, method) >= room.longest:
        return "By estimate this fits: training.batchSize: 1 with gradientCheckpointing: true."
    # What was tried did not fit, whatever the estimate says.
    shorter = min(longest_row(room, method), room.longest // 2 // _STEP * _STEP)
    found = [f"training.maxSequenceLength: {shorter}"] if shorter else []
    with_qlora = min(longest_row(room, Method.QLORA), room.longest)
    if method is not Method.QLORA and with_qlora > shorter:
        found.append(f"training.method: QLoRA with rows of up to {with_qlora} tokens")
    if not found:
        return "By estimate nothing fits this GPU: choose a smaller model, or a GPU with more memory."
    return f"By estimate this fits, in a new job: {', or '.join(found)}."


def longest_row(room: Room, method: Method) -> int:
    """Tokens of the longest row that fits alone with activations computed twice, at most those of the longest tried."""
    usable = room.free.get(method, 0) * USABLE
    for tokens in chain([room.longest], range(room.longest // _STEP * _STEP, 0, -_STEP)):
        if row_bytes(room.shape, tokens, room.attention, checkpointing=True) <= usable:
            return tokens
    return 0
