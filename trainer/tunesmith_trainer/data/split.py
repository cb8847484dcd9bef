"""The index of all rows in, the part of each row out: train, eval and gate, which share no prompt.

Everything is decided by hashes of what the rows say and the seed, never by their order: the same rows in another order,
or in more files, are split alike.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from heapq import nsmallest

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.settings import PrepareSettings
from tunesmith_api.spec import EVALUATION_PERCENT
from tunesmith_trainer.data.gather import EVALUATION, Index, numbered

# The gate part gets half as many rows as the eval part: it is topped up with general text, held-out rows cannot be.
GATE_SHARE = 0.5
# The fewest rows of each part. 8 held-out answers tell a gain of 50 points from chance (exact binomial, 95 %), fewer
# tell nothing; 4 rows are the least of which two can differ in the gate; 16 are one step of the default batch.
LEAST = {"train": 16, "eval": 8, "gate": 4}


class Part(IntEnum):
    """Where a row goes."""

    TRAIN = 0
    EVAL = 1
    GATE = 2
    LEFT_OUT = 3
    OVERLAP = 4


USED = (Part.TRAIN, Part.EVAL, Part.GATE)


@dataclass(frozen=True, slots=True)
class Split:
    """The part of each row, in the order of the index."""

    parts: array[int]

    def of(self, place: int) -> Part:
        """The part of the row at this place of the index."""
        return Part(self.parts[place])

    def count(self, part: Part) -> int:
        return self.parts.count(part)


def _rank(seed: int, purpose: str, digest: bytes) -> bytes:
    return blake2b(digest, digest_size=8, key=f"{seed}:{purpose}".encode()).digest()


def split(index: Index, settings: PrepareSettings) -> Split:
    """The part of each row; evaluation.percent of them are held out where there is no evaluation dataset.

    Raises DatasetTooSmall, with the numbers, when a part cannot get as many rows as it needs without sharing a prompt
    with another.
    """
    seed = settings.seed
    percent = EVALUATION_PERCENT if settings.evaluation_percent is None else settings.evaluation_percent
    parts = array("B", bytes(len(index.rows)))
    for number, dataset in numbered(settings):
        _limit(parts, index, (number, dataset.max_examples), seed)
    _set_aside_evaluation(parts, index)
    groups: dict[bytes, int] = {}
    for place, part in enumerate(parts):
        if part == Part.TRAIN:
            groups[index.prompts[place]] = groups.get(index.prompts[place], 0) + 1
    rows = sum(groups.values())
    held = 0 if settings.evaluation is not None else max(LEAST["eval"], round(rows * percent / 100))
    gate = max(LEAST["gate"], round(rows * percent / 100 * GATE_SHARE))
    chosen = _choose(groups, (held, gate), seed)
    for place, part in enumerate(parts):
        if part == Part.TRAIN:
            parts[place] = chosen.get(index.prompts[place], Part.TRAIN)
    result = Split(parts)
    check_sizes({part.name.lower(): result.count(part) for part in USED}, f"with {len(groups)} different prompts")
    return result


def _limit(parts: array[int], index: Index, limit: tuple[int, int | None], seed: int) -> None:
    dataset, most = limit
    if most is None:
        return
    places = (place for place, number in enumerate(index.datasets) if number == dataset)
    ranked = ((_rank(seed, "limit", index.rows[place]), place) for place in places)
    kept = {place for _, place in nsmallest(most, ranked)}
    for place, number in enumerate(index.datasets):
        if number == dataset and place not in kept:
            parts[place] = Part.LEFT_OUT


def _set_aside_evaluation(parts: array[int], index: Index) -> None:
    """Puts the rows of the evaluation dataset into eval and their prompts' other rows nowhere."""
    places = [p for p, number in enumerate(index.datasets) if number == EVALUATION and parts[p] == Part.TRAIN]
    prompts = {index.prompts[place] for place in places}
    for place in places:
        parts[place] = Part.EVAL
    for place, part in enumerate(parts):
        if part == Part.TRAIN and index.prompts[place] in prompts:
            parts[place] = Part.OVERLAP


def _choose(groups: dict[bytes, int], wanted: tuple[int, int], seed: int) -> dict[bytes, Part]:
    """Which prompts are held out: in the order of their hashes, a group of rows only where it fits whole.

    A prompt that many rows share would otherwise fill a part alone.
    """
    held, gate = wanted
    chosen: dict[bytes, Part] = {}
    for prompt in sorted(groups, key=lambda digest: _rank(seed, "split", digest)):
        size = groups[prompt]
        if size <= held:
            chosen[prompt] = Part.EVAL
            held -= size
        elif size <= gate:
            chosen[prompt] = Part.GATE
            gate -= size
        if not held and not gate:
            break
    return chosen


def check_sizes(counts: Mapping[str, int], what: str, cure: str = "Add rows") -> None:
    """Raises DatasetTooSmall if a part (train, eval, gate) has too few rows; `what` says of which rows they are."""
    short = [f"{counts[part]} for {part} (at least {least})" for part, least in LEAST.items() if counts[part] < least]
    if short:
        raise StageFailure(
            FailureClass.DATASET_TOO_SMALL,
            f"{sum(counts.values())} usable rows {what} are too few: {', '.join(short)}",
            hint=f"{cure}: {sum(LEAST.values())} different prompts are the least, a few hundred teach something.",
        )


def rates(index: Index, result: Split, weights: Mapping[int, float]) -> dict[int, float]:
    """How often the train rows of each dataset are seen, from the weights by dataset.

    The dataset with the most train rows is seen once; every other by its weight compared with that one's, whole
    repeats first and the rest by hash (`times`).
    """
    counts = dict.fromkeys(weights, 0)
    for place, number in enumerate(index.datasets):
        if result.of(place) is Part.TRAIN:
            counts[number] += 1
    largest = max(weights, key=lambda number: counts[number])
    return {number: weight / weights[largest] for number, weight in weights.items()}


def times(rate: float, row: bytes, seed: int) -> int:
    """How often one row is seen at this rate; over many rows the mean is the rate."""
    whole = int(rate)
    chance = int.from_bytes(_rank(seed, "weight", row), "big") / 2**64
    return whole + (chance < rate - whole)
