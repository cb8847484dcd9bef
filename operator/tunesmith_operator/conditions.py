"""Conditions for machines, as kstatus, Flux and ``kubectl wait`` read them.

kstatus (fluxcd/cli-utils, pkg/kstatus/status) takes Reconciling=True for in progress, Stalled=True for failed, then
Ready; ``kubectl wait`` waits for one condition only, so Finished stands beside Complete and Failed.
"""

from dataclasses import dataclass
from datetime import datetime

from tunesmith_api.status import Condition, ConditionStatus, Phase


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands: its phase, why in one word and in a sentence, for which generation and when."""

    phase: Phase
    reason: str
    message: str
    generation: int
    now: datetime


# By phase: the conditions that are there, and what they are. Absent ones (None) are removed: kstatus reads presence.
_TABLE: dict[Phase, dict[str, ConditionStatus | None]] = {
    Phase.PENDING: {"Ready": ConditionStatus.UNKNOWN, "Reconciling": ConditionStatus.TRUE, "Stalled": None},
    Phase.RUNNING: {"Ready": ConditionStatus.UNKNOWN, "Reconciling": ConditionStatus.TRUE, "Stalled": None},
    Phase.SUSPENDED: {"Ready": ConditionStatus.UNKNOWN, "Reconciling": None, "Stalled": None},
    Phase.COMPLETE: {"Ready": ConditionStatus.TRUE, "Reconciling": None, "Stalled": None},
    Phase.FAILED: {"Ready": ConditionStatus.FALSE, "Reconciling": None, "Stalled": ConditionStatus.TRUE},
}


def conditions_of(standing: Standing, before: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """The conditions of a job that stands there; a transition time changes with the status alone."""
    known = {condition.type: condition for condition in before}
    wanted = _TABLE[standing.phase] | {
        "Complete": _true(standing.phase is Phase.COMPLETE),
        "Failed": _true(standing.phase is Phase.FAILED),
        "Finished": _true(standing.phase in (Phase.COMPLETE, Phase.FAILED)),
        "Suspended": _true(standing.phase is Phase.SUSPENDED),
    }
    return tuple(
        _condition(name, status, standing, known.get(name)) for name, status in wanted.items() if status is not None
    )


def _true(holds: bool) -> ConditionStatus:
    return ConditionStatus.TRUE if holds else ConditionStatus.FALSE


def _condition(name: str, status: ConditionStatus, standing: Standing, before: Condition | None) -> Condition:
    since = before.last_transition_time if before is not None and before.status is status else standing.now
    return Condition(
        type=name,
        status=status,
        reason=standing.reason,
        message=standing.message,
        last_transition_time=since,
        observed_generation=standing.generation,
    )
