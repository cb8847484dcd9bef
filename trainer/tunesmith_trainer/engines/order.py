"""In which order rows are seen: pure functions of their lengths, the effective batch size and the seed."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# So many effective batches are sorted by length together. Within such a window rows of one batch have nearly one
# length, so little is padded; across windows the order stays random. (Transformers' LengthGroupedSampler uses up to 50
# and leaves the batches of a window in order of length, which trains from long to short again and again.)
WINDOW_BATCHES = 8


def epoch_order(lengths: Sequence[int], effective_batch: int, seed: int, epoch: int) -> list[int]:
    """Every row's index once, so that each run of `effective_batch` rows has similar lengths.

    Which rows make one optimizer step depends on neither micro-batch nor accumulation. Only the last batch of an epoch
    may be smaller. The longest rows come first of all, so that a batch that does not fit into memory fails in the first
    step and not after hours.
    """
    chance = random.Random(f"{seed}/{epoch}")  # noqa: S311  # an order, not a secret
    rows = list(range(len(lengths)))
    chance.shuffle(rows)
    partial = rows[len(rows) - len(rows) % effective_batch :]
    rows = rows[: len(rows) - len(partial)]
    window = effective_batch * WINDOW_BATCHES
    ordered = [
        row
        for start in range(0, len(rows), window)
        for row in sorted(rows[start : start + window], key=lambda row: (lengths[row], row))
    ]
    batches = [ordered[start : start + effective_batch] for start in range(0, len(ordered), effective_batch)]
    chance.shuffle(batches)
    if epoch == 0 and batches:
        longest = max(range(len(batches)), key=lambda index: sum(lengths[row] for row in batches[index]))
        batches[0], batches[longest] = batches[longest], batches[0]
    return [row for batch in (*batches, sorted(partial, key=lambda row: (lengths[row], row))) for row in batch]


def steps_per_epoch(rows: int, effective_batch: int) -> int:
    """Optimizer steps in one pass over the rows."""
    return math.ceil(rows / effective_batch)


def total_steps(rows: int, effective_batch: int, epochs: float, max_steps: int | None) -> int:
    """Optimizer steps of the whole run: `max_steps` where given, else `epochs` passes, rounded up."""
    if max_steps is not None:
        return max_steps
    return max(1, math.ceil(epochs * steps_per_epoch(rows, effective_batch)))


@dataclass(slots=True)
class RowOrder:
    """A torch sampler: yields row indices of the epoch that `set_epoch` named."""

    lengths: Sequence[int]
    effective_batch: int
    seed: int
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(epoch_order(self.lengths, self.effective_batch, self.seed, self.epoch))

    def __len__(self) -> int:
        return len(self.lengths)

    def tokens_by_step(self, steps: int) -> list[int]:
        """How many tokens (without padding) each of the first `steps` optimizer steps reads."""
        counts: list[int] = []
        epoch = 0
        while len(counts) < steps:
            order = epoch_order(self.lengths, self.effective_batch, self.seed, epoch)
            counts.extend(
                sum(self.lengths[row] for row in order[start : start + self.effective_batch])
                for start in range(0, len(order), self.effective_batch)
            )
            epoch += 1
        return counts[:steps]
