"""Figures as people read them: the same words on the terminal, in the model card and in comparisons. Pure."""

from collections.abc import Mapping
from typing import Any

# Metrics whose value is a share of answers and reads best in percent.
_SHARES = {"ExactMatch", "Labels"}
NONE = "-"


def number(value: object, digits: int) -> str:
    """A number with so many decimals, a dash where there is none."""
    return f"{value:.{digits}f}" if isinstance(value, int | float) else NONE


def with_error(value: object) -> str:
    """A figure with its standard error: ``0.161 ± 0.012``."""
    if not isinstance(value, Mapping) or value.get("value") is None:
        return NONE
    error = value.get("error")
    return f"{value['value']:.3f}" + ("" if error is None else f" ± {error:.3f}")


def share(value: object) -> str:
    """A fraction in percent."""
    return f"{100 * value:.1f} %" if isinstance(value, int | float) else NONE


def score(value: object, metric: str) -> str:
    """A score in the metric's own unit."""
    return share(value) if metric in _SHARES else number(value, 3)


def interval(found: Mapping[str, Any] | None) -> str:
    """A score object with its 95 % interval."""
    if not found:
        return NONE
    metric = str(found.get("metric"))
    text = score(found.get("value"), metric)
    if found.get("low") is None:
        return text
    return f"{text} ({score(found['low'], metric)} to {score(found['high'], metric)})"


def loss(value: object) -> str:
    """A loss, given as a number or as an object with a value."""
    return number(value.get("value") if isinstance(value, Mapping) else value, 3)


def metric_of(report: Mapping[str, Any]) -> str:
    """The metric that a report's answers were scored by; ``Loss`` where none was."""
    tuned = (report.get("evaluation") or {}).get("tuned") or {}
    return str((tuned.get("score") or {}).get("metric") or "Loss")


def megabytes(size: object) -> str:
    """Bytes in MB (10^6)."""
    return f"{size / 1e6:.0f}" if isinstance(size, int | float) else NONE
