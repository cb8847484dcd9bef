"""From two models' next-token distributions on the same tokens to how far they agree, and whether that is enough."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# "At least 1,000 real tokens" (issue 3), in sequences short enough that the logits of one of them, of a vocabulary of
# 256,000, take 262 MB.
POSITIONS = 1_024
SEQUENCE = 256


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two models agree over `positions`: the share of equal top tokens, and KL divergences in nats.

    A top token that the right model holds for all but as likely as its own counts as equal (`_TIE`).
    """

    positions: int
    same_top: float
    mean_kl: float
    largest_kl: float


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a right pair keeps to: at least this share of equal top tokens, at most this mean KL divergence in nats."""

    same_top: float
    mean_kl: float


# Measured on SmolLM2-135M against float32 by transformers, 1,024 tokens of general text and of chats (share of equal
# top tokens, mean KL divergence): a right bf16 GGUF 0.994 to 0.997 and 0.0001 to 0.0002; merged weights, rounded to
# bf16, against base and adapter apart 0.997 and 0.0002; a forward pass in bf16 by transformers itself 0.973 and 0.0016.
# The mildest mistake, the keys of the last of 30 layers zeroed: 0.93 and 0.017; q and k of a layer swapped 0.63 to 0.94
# and 0.03 to 0.5; rope base 10,000 for 100,000: 0.82 and 0.10 to 0.13; an adapter not merged 0.62 to 0.84 and 0.12 to
# 0.73.
RIGHT = Tolerance(same_top=0.97, mean_kl=0.002)
# How much less likely (nats) a token may be by the right model and still be its equal. Processors multiply bf16 in
# other orders: on one with AMX a right GGUF had 95.9 % equal top tokens at a mean divergence of 0.0002, since a place
# where two tokens are 0.052 apart came again in the beginning of every row.
_TIE = 0.1


def compare(pairs: Iterable[tuple["torch.Tensor", "torch.Tensor"]]) -> Agreement:
    """The agreement over all pairs of logits, each (positions, vocabulary): the right ones first, then those judged.

    A distribution that is not a number anywhere counts as an infinite divergence. Where one vocabulary is longer
    (Gemma 3 has rows for ids that its tokenizer never gives), the common part is compared.
    """
    import torch

    positions, equal, total, largest = 0, 0, 0.0, 0.0
    for right, judged in pairs:
        common = min(right.shape[-1], judged.shape[-1])
        p = torch.log_softmax(right[:, :common].float(), dim=-1)
        q = torch.log_softmax(judged[:, :common].float(), dim=-1)
        # Rounding makes tiny divergences negative.
        divergence = (p.exp() * (p - q)).sum(dim=-1).clamp(min=0).nan_to_num(nan=math.inf)
        chosen = p.gather(-1, q.argmax(dim=-1, keepdim=True))[:, 0]
        equal += int(((p.amax(dim=-1) - chosen <= _TIE) & divergence.isfinite()).sum())
        positions += len(divergence)
        total += float(divergence.sum(dtype=torch.float64))
        largest = max(largest, float(divergence.max()))
    return Agreement(positions, equal / max(positions, 1), total / max(positions, 1), largest)


def shortcomings(found: Agreement, wanted: Tolerance) -> list[str]:
    """What of `wanted` is missed, as sentences; empty if nothing is."""
    missed = []
    if not found.same_top >= wanted.same_top:
        missed.append(f"the most likely token is the same at {found.same_top:.1%}, not at {wanted.same_top:.1%}")
    if not found.mean_kl <= wanted.mean_kl:
        missed.append(f"the mean KL divergence is {found.mean_kl:.2g}, not below {wanted.mean_kl:.2g}")
    return missed


def sequences(rows: Iterable[Sequence[int]], positions: int) -> Iterator[list[int]]:
    """Beginnings of `rows`, at most SEQUENCE tokens each, until they hold `positions` tokens."""
    left = positions
    for row in rows:
        if left <= 0:
            return
        taken = list(row[: min(SEQUENCE, left)])
        left -= len(taken)
        if taken:
            yield taken
