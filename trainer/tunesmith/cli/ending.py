"""How a run ended: what is recorded of it and told to a program, as a value."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.cli.errors import exit_code
from tunesmith.cli.report import failed_gates
from tunesmith.local.runner import Run
from tunesmith_api.failures import FAILURES, FailureClass, StageFailure
from tunesmith_api.stages import Failure, Stage, failure_of
from tunesmith_api.status import Phase

_STOPPED = "the run was stopped; what it has made is kept"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Why a run failed, None if it did not, and the files that it delivered."""

    failure: Failure | None = None
    files: tuple[Path, ...] = ()

    @property
    def phase(self) -> Phase:
        return Phase.COMPLETE if self.failure is None else Phase.FAILED

    @property
    def code(self) -> int:
        """The exit code of the command line."""
        return 0 if self.failure is None else exit_code(self.failure)

    def to_event(self) -> dict[str, Any]:
        """The last line of ``tunesmith run --json``."""
        failure = None if self.failure is None else self.failure.to_json_dict()
        return {
            "event": "finished",
            "phase": self.phase,
            "failure": failure,
            "files": [str(file) for file in self.files],
        }


def failure_of_run(run: Run) -> Failure | None:
    """What kept a run from publishing; a run that was stopped before is interrupted, whatever its stages made of it."""
    if not run.stops or Stage.PUBLISH in run.record.stages:
        return run.failure
    if run.failure is not None and run.failure.failure is FailureClass.INTERRUPTED:
        return run.failure
    return failure_of(StageFailure(FailureClass.INTERRUPTED, _STOPPED))


def failure_of_gates(report: Mapping[str, Any], figures: Mapping[str, Any]) -> Failure | None:
    """The failed gates, where they end the job as failed (contract 9); `figures` are publish's headlines."""
    if (figures.get("verdict"), figures.get("onFailure")) != ("Failed", "Withhold"):
        return None
    _, hint = gates_in_short(report)
    return failure_of(StageFailure(FailureClass.GATE_FAILED, "; ".join(failed_gates(report)), hint), Stage.PUBLISH)


def gates_in_short(report: Mapping[str, Any]) -> tuple[str, str]:
    """What the failed gates did, and what helps: those of a file withhold it, the tuned model's own do not."""
    withheld = any(not file["published"] for file in report["files"])
    tuned = any(gate["verdict"] == "Failed" for gate in report.get("gates") or [])
    larger = FAILURES[FailureClass.GATE_FAILED].hint
    if not tuned:
        return "what failed its gates is not published", larger
    longer = "Train longer or on more rows, or relax the gate that the report names."
    if not withheld:
        return "every file is published, but the tuned model failed a gate of its own", longer
    return "what failed its gates is not published, and the tuned model failed a gate of its own", f"{larger} {longer}"


def outcome_of_error(error: BaseException) -> Outcome:
    """What ended a run before its end: a classified failure, Ctrl-C, or a defect."""
    if isinstance(error, StageFailure):
        return Outcome(failure_of(error))
    if isinstance(error, KeyboardInterrupt):
        return Outcome(failure_of(StageFailure(FailureClass.INTERRUPTED, _STOPPED)))
    return Outcome(failure_of(StageFailure(FailureClass.INTERNAL, f"{type(error).__name__}: {error}")))
