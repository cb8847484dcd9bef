"""From per-row numbers to a mean, or a difference of two, with a 95 % bootstrap interval."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# Percentile intervals at 95 % need at least 1,000 resamples (Efron and Tibshirani, An Introduction to the Bootstrap,
# chapter 13); twice that costs milliseconds.
RESAMPLES = 2_000
_TAIL = 2.5


def mean_interval(metric: str, values: Sequence[float], seed: int) -> dict[str, Any]:
    """The mean of scores of 0 to 1 with the percentile bootstrap's interval: {"metric", "value", "low", "high", "n"}.

    Where every row has the worst or the best score, resampling knows no doubt: then it is the exact binomial interval
    (Clopper and Pearson 1934), 0 to 6 % for none of 60.
    """
    found = ratio_interval(metric, values, [1.0] * len(values), seed)
    if values and set(values) <= {0.0}:
        return found | {"high": 1 - _least(len(values))}
    if values and set(values) <= {1.0}:
        return found | {"low": _least(len(values))}
    return found


def _least(rows: int) -> float:
    """The lower end of the 95 % interval for `rows` successes in as many tries."""
    return float((_TAIL / 100) ** (1 / rows))


def ratio_interval(metric: str, totals: Sequence[float], weights: Sequence[float], seed: int) -> dict[str, Any]:
    """The sum of `totals` over the sum of `weights`, rows resampled: for a loss per token, rows of unequal length."""
    import numpy as np

    numbers = np.array([totals, weights], dtype=np.float64)
    if not numbers.shape[1]:
        return {"metric": metric, "value": None, "low": None, "high": None, "n": 0}
    sampled = _resampled(numbers, seed)
    return _interval(metric, numbers[0].sum() / numbers[1].sum(), sampled[0] / sampled[1], numbers.shape[1])


def difference_interval(
    metric: str,
    first: tuple[Sequence[float], Sequence[float]],
    second: tuple[Sequence[float], Sequence[float]],
    seed: int,
) -> dict[str, Any]:
    """Second less first, each (totals, weights) of the same rows in one order, rows resampled together (paired)."""
    import numpy as np

    numbers = np.array([*first, *second], dtype=np.float64)
    if not numbers.shape[1]:
        return {"metric": metric, "value": None, "low": None, "high": None, "n": 0}
    whole, sampled = numbers.sum(axis=1), _resampled(numbers, seed)
    return _interval(
        metric,
        whole[2] / whole[3] - whole[0] / whole[1],
        sampled[2] / sampled[3] - sampled[0] / sampled[1],
        numbers.shape[1],
    )


def _resampled(numbers: "np.ndarray[Any, Any]", seed: int) -> "np.ndarray[Any, Any]":
    """Sums of each row of (k, n) over RESAMPLES draws of n columns with replacement: (k, RESAMPLES)."""
    import numpy as np

    draws = np.random.default_rng(seed).multinomial(
        numbers.shape[1], np.full(numbers.shape[1], 1 / numbers.shape[1]), size=RESAMPLES
    )
    return np.asarray(numbers @ draws.T)


def _interval(metric: str, value: float, sampled: "np.ndarray[Any, Any]", rows: int) -> dict[str, Any]:
    import numpy as np

    low, high = np.percentile(sampled, [_TAIL, 100 - _TAIL])
    return {"metric": metric, "value": float(value), "low": float(low), "high": float(high), "n": rows}
