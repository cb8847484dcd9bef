"""Whether a measured file is good enough: pure functions of figures and thresholds (contract 9 of the design)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

from tunesmith_api.measuring import Gates


class Verdict(StrEnum):
    """What a gate says. Inconclusive never fails a job: the figure is missing or its error bar spans the threshold."""

    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's verdict with the numbers behind it, in the figure's own unit."""

    name: str
    verdict: Verdict
    value: float | None
    error: float | None
    threshold: float
    ideal: bool | None = None

    def to_json_dict(self) -> dict[str, object]:
        """The JSON form for report and status."""
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "value": self.value,
            "error": self.error,
            "threshold": self.threshold,
            "ideal": self.ideal,
        }


# A figure is judged at its value plus two standard errors: the upper end of a 95 % interval (pipeline notes on P66;
# llama.cpp's tools print one standard error behind the plus-minus sign).
STANDARD_ERRORS = 2.0


def upper_gate(name: str, figure: Mapping[str, Any] | None, threshold: float, ideal: float | None = None) -> GateResult:
    """Pass when the upper end of the error bar stays below `threshold`.

    Failed only when even the figure itself reaches the threshold; in between the measurement is too coarse to tell.
    """
    if figure is None or (value := _finite(figure)) is None:
        return _without_number(name, figure, threshold)
    error = figure.get("error")
    upper = value + STANDARD_ERRORS * (error or 0.0)
    verdict = _verdict(upper < threshold, value >= threshold)
    return GateResult(name, verdict, value, error, threshold, None if ideal is None else upper < ideal)


def lower_gate(name: str, figure: Mapping[str, Any] | None, threshold: float) -> GateResult:
    """Pass when the lower end of the error bar stays at or above `threshold`; the mirror of `upper_gate`."""
    if figure is None or (value := _finite(figure)) is None:
        return _without_number(name, figure, threshold)
    error = figure.get("error")
    verdict = _verdict(value - STANDARD_ERRORS * (error or 0.0) >= threshold, value < threshold)
    return GateResult(name, verdict, value, error, threshold)


def paired_gate(name: str, figure: Mapping[str, Any] | None, threshold: float) -> GateResult:
    """Pass when the upper end of a 95 % interval ({"value", "low", "high"}) stays below `threshold`.

    Failed only where the figure reaches the threshold and its interval lies above zero: with few prompts one answer
    more or less is chance, and chance fails no file.
    """
    if figure is None or (value := _finite(figure)) is None:
        return _without_number(name, figure, threshold)
    low, high = float(figure["low"]), float(figure["high"])
    verdict = _verdict(high < threshold, value >= threshold and not low <= 0)
    return GateResult(name, verdict, value, (high - value) / STANDARD_ERRORS, threshold)


def _verdict(passed: bool, failed: bool) -> Verdict:
    if passed:
        return Verdict.PASSED
    return Verdict.FAILED if failed else Verdict.INCONCLUSIVE


def _finite(figure: Mapping[str, Any]) -> float | None:
    value = figure.get("value")
    return float(value) if value is not None and isfinite(value) else None


def _without_number(name: str, figure: Mapping[str, Any] | None, threshold: float) -> GateResult:
    """What was not measured is unknown; a figure that is no number is as bad as can be (JSON has no word for it)."""
    measured = figure is not None and figure.get("value") is not None
    return GateResult(name, Verdict.FAILED if measured else Verdict.INCONCLUSIVE, None, None, threshold)


def judge(gates: Gates, figures: Mapping[str, Any]) -> tuple[GateResult, ...]:
    """All gates that apply to one quantized file, from its figures.json."""
    results = [
        upper_gate(
            "maxPerplexityIncrease",
            figures.get("perplexityIncrease"),
            gates.max_perplexity_increase,
            gates.ideal_that_holds,
        ),
        upper_gate("maxLogPerplexityIncrease", figures.get("logPerplexityIncrease"), gates.max_log_perplexity_increase),
    ]
    if gates.max_kl_divergence is not None:
        divergence = figures.get("klDivergence") or {}
        results.append(
            upper_gate(
                "maxKLDivergence",
                {"value": divergence.get("mean"), "error": divergence.get("error")},
                gates.max_kl_divergence,
            )
        )
    if gates.min_same_top is not None:
        results.append(lower_gate("minSameTop", figures.get("sameTop"), gates.min_same_top))
    return (*results, *_judge_held_out(gates, figures), *_judge_answers(gates, figures))


def _judge_held_out(gates: Gates, figures: Mapping[str, Any]) -> tuple[GateResult, ...]:
    """Against the tuned model on the same prompts: what perplexity of other text does not see."""
    loss = paired_gate("maxLossIncrease", figures.get("lossIncrease"), gates.max_loss_increase)
    if "scoreDrop" not in figures:
        return (loss,)
    return (paired_gate("maxScoreDrop", figures["scoreDrop"], gates.max_score_drop), loss)


def _judge_answers(gates: Gates, figures: Mapping[str, Any]) -> tuple[GateResult, ...]:
    """Answers are to be such, and none may hold markup (P69 and the smoke test of llama-server)."""
    answers = figures.get("chat") or figures.get("completion")
    if not answers or not answers.get("answered"):
        return ()
    clean = float(answers.get("clean", 0)) / float(answers["answered"])
    probes = sum(bool(probe["leaks"]) for probe in answers.get("probes", ()))
    # Not one answer may leak: the threshold is the first leak.
    return (
        lower_gate("minAnswersClean", {"value": clean}, gates.min_answers_clean),
        upper_gate("noMarkupLeaked", {"value": answers.get("leaks", 0) + probes}, 1.0),
    )


def worst(results: Sequence[GateResult]) -> Verdict:
    """The verdict on a file: failed if any gate failed, else inconclusive if any is, else passed."""
    verdicts = {result.verdict for result in results}
    for verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE):
        if verdict in verdicts:
            return verdict
    return Verdict.PASSED
