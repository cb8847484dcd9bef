"""A stage's progress in parts: each part tells its own fraction, and the stage's is told on."""

from collections.abc import Callable
from dataclasses import dataclass

Tell = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Part:
    """What lies between two fractions of a stage."""

    progress: Tell
    start: float
    end: float

    def __call__(self, fraction: float) -> None:
        self.progress(self.start + fraction * (self.end - self.start))


def parts(progress: Tell, *shares: float) -> tuple[Tell, ...]:
    """One teller for each share of the whole; shares are relative to their sum."""
    whole = sum(shares)
    ends = [sum(shares[: index + 1]) / whole for index in range(len(shares))]
    return tuple(Part(progress, start, end) for start, end in zip([0.0, *ends], ends, strict=False))
