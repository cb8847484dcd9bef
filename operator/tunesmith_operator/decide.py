"""What to do about a job as it is seen: a pure function, safe to act upon at any moment, twice, or not at all.

Nothing here remembers. What has to outlast the operator stands in the status, which is written once per pass, after
the actions; what follows from it is done in the next pass.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from tunesmith_api.plan import PlannedStage
from tunesmith_api.stages import Stage
from tunesmith_api.status import JobStatus, StageState
from tunesmith_operator.course import Course
from tunesmith_operator.deadline import deadline
from tunesmith_operator.ending import keys_of
from tunesmith_operator.fold import Folded, Rules, done, fold
from tunesmith_operator.giving_up import patience_ends
from tunesmith_operator.names import TEMPLATE_ANNOTATION
from tunesmith_operator.outage import next_try
from tunesmith_operator.outcome import Outcome, outcome_of, refused
from tunesmith_operator.progressing import next_write
from tunesmith_operator.refusing import refusal
from tunesmith_operator.silence import next_look
from tunesmith_operator.storing import recorded_store
from tunesmith_operator.waiting import ORDINARY, overdue
from tunesmith_operator.world import JobState, StageJob, World


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Make the Job of a stage, as its record says it is to be run."""

    stage: str
    job: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a Job, in the foreground: its name is free, and its pods are gone, when it is gone.

    Only as it was seen: one that has ended since has a result that nobody has read yet.
    """

    name: str
    uid: str
    version: int


@dataclass(frozen=True, slots=True)
class DeleteObject:
    """Delete the job itself: its time to live is over."""


Action = CreateJob | DeleteJob | DeleteObject


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, the status to write, and when to look again though nothing has been seen to change."""

    actions: tuple[Action, ...]
    status: JobStatus
    again: datetime | None = None


def decide(world: World, rules: Rules) -> Decision:
    """The next actions and the status of a job."""
    if world.deleting:
        return Decision((), world.status)
    failure = refusal(world, rules.settings)
    if failure is not None:
        return Decision((), refused(world, failure))
    folded = fold(world, rules)
    outcome = _with_store(outcome_of(world, folded), world, rules)
    if _expired(world, outcome.status):
        return Decision((DeleteObject(),), outcome.status)
    deletions = tuple(_deletions(world, folded, outcome, rules))
    # As the status will say it: the deadline's clock may have been set anew.
    after = replace(world, status=outcome.status)
    creations = () if outcome.halted else tuple(_creations(after, folded, rules))
    if creations:
        made = _as_made(folded, {each.stage for each in creations}, world.now.replace(microsecond=0))
        outcome = _with_store(outcome_of(world, made), world, rules)
    return Decision((*deletions, *creations), outcome.status, _again(world, outcome, rules))


def _as_made(folded: Folded, names: set[str], now: datetime) -> Folded:
    """With what the next pass would record of the Jobs that are made now (`fold`), which then costs no write.

    What keeps one from being made goes on standing there.
    """
    planned = {stage.name: stage for stage in folded.course.plan.stages}
    stages = tuple(
        stage.model_copy(
            update={"message": ORDINARY, "keys": keys_of(planned[stage.name]), "started": stage.started or now}
        )
        if stage.name in names and not stage.message
        else stage
        for stage in folded.status.stages
    )
    return replace(folded, status=folded.status.model_copy(update={"stages": stages}))


def _with_store(outcome: Outcome, world: World, rules: Rules) -> Outcome:
    store = recorded_store(world, rules.settings)
    return replace(outcome, status=outcome.status.model_copy(update={"store": store}))


def _creations(world: World, folded: Folded, rules: Rules) -> Iterator[CreateJob]:
    """The Jobs of all stages that may start; a name that is still taken, by whomever, is waited for."""
    course, ended = folded.course, done(folded.status.stages)
    taken = {stage.name for stage in course.plan.stages if course.job_name_of(stage) in world.jobs}
    free = rules.settings.quantizations_at_once - _quantizing(world, course)
    for stage in course.startable(ended, taken):
        status = folded.stage(stage.name)
        if status.state is not StageState.WAITING:
            continue
        if stage.stage is Stage.QUANTIZE:
            free -= 1
            if free < 0:
                continue
        yield CreateJob(stage.name, rules.job(world, course, stage, status))


def _quantizing(world: World, course: Course) -> int:
    names = {course.job_name_of(stage) for stage in course.plan.stages if stage.stage is Stage.QUANTIZE}
    return sum(not job.ended for job in world.own_jobs if job.name in names)


def _deletions(world: World, folded: Folded, outcome: Outcome, rules: Rules) -> Iterator[DeleteJob]:
    planned = {folded.course.job_name_of(stage): stage for stage in folded.course.plan.stages}
    kept = outcome.status.finished is None or world.now < outcome.status.finished + rules.settings.keep_jobs
    for job in world.own_jobs:
        if job.deleting:
            continue
        stage = planned.get(job.name)
        if (job.ended and not kept) or _to_go(world, folded, (job, stage), outcome, rules):
            yield DeleteJob(job.name, job.uid, job.version)


def _to_go(
    world: World, folded: Folded, of: tuple[StageJob, PlannedStage | None], outcome: Outcome, rules: Rules
) -> bool:
    """Whether a Job is in the way: not asked for any more, of an earlier turn, given up, or without a result.

    Judged by the record as it was written, not by what this pass makes of it: why a stage is begun anew stands in the
    status before the Job that told it is gone.
    """
    job, stage = of
    if stage is None:
        # One that has failed would be taken for its stage's if that were asked for again.
        return job.state is not JobState.COMPLETE
    if outcome.stopped or (outcome.status.failure is not None and job.waits):
        return not job.ended
    written = next((each for each in world.status.stages if each.name == stage.name), None)
    if written is not None and job.turn < written.turn:
        return True
    if job.state is JobState.COMPLETE:
        settled = job.behind(world.now) or folded.stage(stage.name).state in (StageState.DONE, StageState.FAILED)
        return not settled
    if written is not None and written.state is StageState.FAILED:
        return not job.ended
    status = written or folded.stage(stage.name)
    return job.idle and job.template != rules.marks(world, folded.course, stage, status)[TEMPLATE_ANNOTATION]


def waiting(jobs: Iterable[StageJob]) -> tuple[DeleteJob, ...]:
    """The deletions after a failure that nothing else is known of: what works goes on, what waits has nothing to."""
    return tuple(DeleteJob(job.name, job.uid, job.version) for job in jobs if job.waits and not job.deleting)


def _expired(world: World, status: JobStatus) -> bool:
    lives = world.spec.ttl_seconds_after_finished
    if lives is None or status.finished is None or world.status.finished is None:
        return False
    return world.now >= status.finished + timedelta(seconds=lives)


def _again(world: World, outcome: Outcome, rules: Rules) -> datetime | None:
    """The next moment at which time alone changes the decision."""
    status, lives = outcome.status, world.spec.ttl_seconds_after_finished
    moments = [deadline(world, status), next_write(world, status)] if status.finished is None else []
    moments += [next_try(world, status), next_look(world)]
    live = [job for job in world.own_jobs if not job.ended]
    moments += [patience_ends(job, rules.settings.image_patience, world.warnings) for job in live]
    moments += [job.caught_up for job in world.own_jobs]
    moments += [overdue(pod) for job in live for pod in job.pods]
    if status.finished is not None and world.own_jobs:
        moments.append(status.finished + rules.settings.keep_jobs)
    if status.finished is not None and lives is not None:
        moments.append(status.finished + timedelta(seconds=lives))
    return min((moment for moment in moments if moment is not None and moment > world.now), default=None)
