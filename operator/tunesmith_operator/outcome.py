"""Where a job stands as a whole, from the record of its stages: going on, stopping, suspended, complete or failed."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.fields import spell
from tunesmith_api.stages import Failure, Stage, failure_of
from tunesmith_api.status import JobStatus, Phase, StageState, StageStatus
from tunesmith_operator.conditions import Standing, conditions_of
from tunesmith_operator.deadline import deadline
from tunesmith_operator.fold import Folded
from tunesmith_operator.made import artifacts_of, summary_of
from tunesmith_operator.outage import after_checkpoint
from tunesmith_operator.progressing import with_progress
from tunesmith_operator.spending import with_spending
from tunesmith_operator.world import World

_SUSPENDING = "being suspended: what runs saves what it has, and ends"
# What is tried by itself before a person has to ask, or cannot be: a source is fixed for the life of the object.
_THEN = {
    FailureClass.OUT_OF_MEMORY: "More memory in the manifest is tried by itself; after anything else",
    FailureClass.OUT_OF_MEMORY_GPU: "Another GPU in the manifest is tried by itself; after anything else",
    FailureClass.DISK_FULL: "More disk in the manifest is tried by itself; after anything else",
    FailureClass.SECRET_MISSING: "Another Secret in the manifest is tried by itself; after anything else",
    FailureClass.ACCESS_DENIED: "Another Secret in the manifest is tried by itself; after anything else",
    FailureClass.IMAGE_PULL: "Another image or pull secret is tried by itself; after anything else",
    FailureClass.QUOTA_EXCEEDED: "Another request in the manifest is tried by itself; after anything else",
    FailureClass.SOURCE_ABSENT: "Another Secret in the manifest is tried by itself; if the name is wrong, delete the "
    "job and apply it anew; else",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The status to write, and what it means for Jobs: `halted` starts none, `stopped` ends those that run as well."""

    status: JobStatus
    halted: bool
    stopped: bool


def refused(world: World, failure: Failure) -> JobStatus:
    """The status of a job that cannot run in a cluster."""
    return _standing(world, world.status, Phase.FAILED, failure)


def unreadable(status: JobStatus, error: ValidationError, generation: int, now: datetime, *, live: bool) -> JobStatus:
    """The status of a job whose spec the API server took and the operator does not understand.

    What is `live` runs on by the spec that it began with, and its result counts once the spec is corrected.
    """
    first, others = error.errors(include_url=False)[0], error.error_count() - 1
    place = spell(("spec", *first["loc"]))
    more = f", and {others} more" if others else ""
    failure = failure_of(StageFailure(FailureClass.SPEC_INVALID, f"{place}: {first['msg']}{more}"))
    phase = Phase.RUNNING if live else Phase.FAILED
    message = _message(status, phase, failure)
    return _stood(status, Standing(phase, failure.failure.value, message, generation, _second(now)), failure)


def outcome_of(world: World, folded: Folded) -> Outcome:
    """The job's status after all that was folded."""
    status = _clocked(world, folded.status)
    live = any(not job.ended for job in world.own_jobs)
    late = _late(world, status)
    failure = late or _failed_stage(world.name, world.namespace, status.stages) or _failed_gates(status.stages)
    done = all(stage.state is StageState.DONE for stage in status.stages) and folded.course.resolved is not None
    suspended = world.spec.suspend and not done and failure is None
    phase = _phase(status, (live, done, suspended), failure)
    halted = suspended or failure is not None or phase is Phase.COMPLETE
    made = artifacts_of(world.name, folded.course.plan, status.stages)
    status = status.model_copy(update={"artifacts": made, "summary": summary_of(status.stages)})
    status = with_progress(world, _standing(world, status, phase, failure))
    status = with_spending(world, after_checkpoint(world.status, status))
    return Outcome(status, halted, stopped=suspended or late is not None)


def _standing(world: World, status: JobStatus, phase: Phase, failure: Failure | None) -> JobStatus:
    """The status with what follows from the phase."""
    suspending = world.spec.suspend and phase is Phase.RUNNING
    message = _SUSPENDING if suspending and failure is None else _message(status, phase, failure)
    standing = Standing(phase, _reason(phase, failure), message, world.generation, _second(world.now))
    return _stood(status, standing, failure)


def _stood(status: JobStatus, standing: Standing, failure: Failure | None) -> JobStatus:
    finished = standing.phase in (Phase.COMPLETE, Phase.FAILED)
    return status.model_copy(
        update={
            "observed_generation": standing.generation,
            "phase": standing.phase,
            "message": standing.message,
            "failure": failure,
            "finished": (status.finished or standing.now) if finished else None,
            "conditions": conditions_of(standing, status.conditions),
        }
    )


def _clocked(world: World, status: JobStatus) -> JobStatus:
    """With the clock of the deadline: begun with the first Job or a retry, held while suspended."""
    now = _second(world.now)
    began = min((stage.started for stage in status.stages if stage.started), default=None)
    if status.retried != world.status.retried and began is not None:
        return status.model_copy(update={"started": now, "suspended_seconds": 0.0, "suspended_since": None})
    update: dict[str, object] = {"started": status.started or began}
    since = status.suspended_since
    if world.spec.suspend and since is None and status.finished is None and update["started"] is not None:
        update["suspended_since"] = now
    if not world.spec.suspend and since is not None:
        update |= {
            "suspended_since": None,
            "suspended_seconds": status.suspended_seconds + (now - since).total_seconds(),
        }
    return status.model_copy(update=update)


def _late(world: World, status: JobStatus) -> Failure | None:
    ends = deadline(world, status)
    if ends is None or (status.finished or world.now) < ends:
        return None
    message = f"the job did not end within {world.spec.active_deadline_seconds} s; what it has made is kept"
    return failure_of(StageFailure(FailureClass.DEADLINE, message))


def _failed_stage(name: str, namespace: str, stages: tuple[StageStatus, ...]) -> Failure | None:
    """Of several the one that failed first in the plan: what follows may have failed of it."""
    failures = (stage.result.failure for stage in stages if stage.state is StageState.FAILED and stage.result)
    first = next(iter(failures), None)
    if first is None:
        return None
    asked = f"ask for it again: tunesmith retry {name} -n {namespace}."
    # What publish did not find is the hub's, and its name may change.
    then = "Then" if first.stage is Stage.PUBLISH else _THEN.get(first.failure, "Then")
    return first.model_copy(update={"hint": f"{first.hint} {then} {asked}".lstrip()})


def _failed_gates(stages: tuple[StageStatus, ...]) -> Failure | None:
    """publish is done, and says that a gate under Withhold has failed (contract 9)."""
    published = next((stage for stage in stages if stage.name == Stage.PUBLISH), None)
    if published is None or published.state is not StageState.DONE or published.result is None:
        return None
    figures = published.result.figures
    if (figures.get("verdict"), figures.get("onFailure")) != ("Failed", "Withhold"):
        return None
    said = str(figures.get("failedGates") or "a gate has failed: see the report")
    return failure_of(StageFailure(FailureClass.GATE_FAILED, said), Stage.PUBLISH)


def _phase(status: JobStatus, facts: tuple[bool, bool, bool], failure: Failure | None) -> Phase:
    live, done, suspended = facts
    if live and (failure is not None or suspended):
        return Phase.RUNNING
    if failure is not None:
        return Phase.FAILED
    if done:
        return Phase.COMPLETE
    if suspended:
        return Phase.SUSPENDED
    begun = any(stage.turn or stage.state is not StageState.WAITING for stage in status.stages)
    return Phase.RUNNING if begun else Phase.PENDING


def _reason(phase: Phase, failure: Failure | None) -> str:
    if failure is not None:
        return failure.failure.value
    return phase.value


def _message(status: JobStatus, phase: Phase, failure: Failure | None) -> str:
    if failure is not None and phase is Phase.RUNNING:
        return f"{failure.message}; waiting for what still runs to end"
    if failure is not None:
        return failure.message
    if phase is Phase.COMPLETE:
        return "all files are published"
    if phase is Phase.SUSPENDED:
        return "suspended; it goes on when spec.suspend is false"
    running = [stage.name for stage in status.stages if stage.state is StageState.RUNNING]
    waiting = [f"{stage.name}: {stage.message}" for stage in status.stages if stage.message]
    said = [f"{', '.join(running)} running"] if running else []
    return "; ".join([*said, *waiting]) or "waiting for its first stage to start"


def _second(moment: datetime) -> datetime:
    """Kubernetes' own times have whole seconds (metav1.Time)."""
    return moment.replace(microsecond=0)
