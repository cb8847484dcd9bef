"""Figures and thresholds become gates of the job and of each file, and one verdict over all. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith_api.gates import STANDARD_ERRORS, GateResult, Verdict, judge, lower_gate, worst
from tunesmith_api.measuring import Gates, OnFailure
from tunesmith_api.report import FileReport, GateReport


def job_gates(gates: Gates, evaluation: Mapping[str, Any]) -> tuple[GateResult, ...]:
    """The gates that judge the tuned model: how much better than the base it scores, where that is asked for."""
    if gates.min_score_gain is None:
        return ()
    gain = evaluation.get("gain") or {}
    value, low = gain.get("value"), gain.get("low")
    # The interval's lower end is what has to reach the threshold: as an error of half the way down to it.
    error = None if value is None or low is None else (value - low) / STANDARD_ERRORS
    return (lower_gate("minScoreGain", {"value": value, "error": error}, gates.min_score_gain),)


def file_verdict(gates: Gates, figures: Mapping[str, Any]) -> tuple[tuple[GateReport, ...], Verdict]:
    """All gates of one quantized file and the worst of them."""
    results = judge(gates, figures)
    return tuple(reported(result) for result in results), worst(results)


def reported(result: GateResult) -> GateReport:
    """A gate's result as the report has it."""
    return GateReport.model_validate(result.to_json_dict())


def is_published(verdict: Verdict, on_failure: OnFailure) -> bool:
    """Whether a file goes into the published folder (contract 9)."""
    return verdict is not Verdict.FAILED or on_failure is OnFailure.PUBLISH


# What a status says in one sentence; the report has the rest.
_NAMED = 3


def failed_gates(files: Sequence[FileReport], gates: Sequence[GateReport]) -> str:
    """Which gates have failed, of the first files that failed any; empty where none has."""
    judged = [*((file.type, file.gates) for file in files), ("the tuned model", gates)]
    failed = [(what, [_measured(gate) for gate in each if gate.verdict == Verdict.FAILED]) for what, each in judged]
    said = [f"{what} fails {', '.join(names)}" for what, names in failed if names]
    more = f"; and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
    return "; ".join(said[:_NAMED]) + more


def _measured(gate: GateReport) -> str:
    return gate.name if gate.value is None else f"{gate.name} ({gate.value:.3g} against {gate.threshold:g})"


def overall(files: Sequence[FileReport], gates: Sequence[GateReport]) -> Verdict:
    """The worst verdict of a job."""
    verdicts = {file.verdict for file in files} | {gate.verdict for gate in gates}
    for verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE):
        if verdict in verdicts:
            return verdict
    return Verdict.PASSED
