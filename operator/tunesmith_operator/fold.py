"""What is seen of a job's Jobs is folded into the record of its stages: results, failures, what is begun anew.

The record is the status (contract 5): what stands there as done is done, whatever has become of its Job since. A stage
is begun anew by raising its `turn`; a Job of an earlier turn is then replaced, in a pass after the one that has written
the status, so that no crash in between loses why.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.plan import PlannedStage
from tunesmith_api.resolved import whole
from tunesmith_api.schedule import maker
from tunesmith_api.stages import Stage, StageResult, failure_of
from tunesmith_api.status import JobStatus, StageState, StageStatus
from tunesmith_operator.course import Course, course_of
from tunesmith_operator.ending import anew, asked_anew, complete, failed, keys_of, with_failure, without_job
from tunesmith_operator.giving_up import given_up
from tunesmith_operator.settings import OperatorSettings
from tunesmith_operator.waiting import ORDINARY, waiting_for
from tunesmith_operator.world import JobState, StageJob, World

RESOLVED, PRESENT = "resolved", "present"
# Which stages prepare may find done (contract 5): the others have something to do even then.
_SKIPPED = (Stage.TRAIN, Stage.CONVERT, Stage.IMATRIX, Stage.BASELINE)

JobOf = Callable[[World, Course, PlannedStage, StageStatus], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What decisions go by: the operator's settings, and the Job that a stage is wanted to run in now."""

    settings: OperatorSettings
    job: JobOf

    def marks(self, world: World, course: Course, stage: PlannedStage, status: StageStatus) -> dict[str, str]:
        """The annotations of the Job that is wanted now, among them the digest of its template."""
        return dict(self.job(world, course, stage, status)["metadata"]["annotations"])


@dataclass(frozen=True, slots=True)
class Folded:
    """The stages as they stand, the pinned sources once prepare has told them, and the retry that was heeded."""

    course: Course
    status: JobStatus

    def stage(self, name: str) -> StageStatus:
        """The record of a stage."""
        return next(stage for stage in self.status.stages if stage.name == name)


def fold(world: World, rules: Rules) -> Folded:
    """The record after all that is seen; again once the sources are known, since only then the other stages are."""
    folded = _fold(world, rules, world.status)
    prepared = folded.status.stages[0]
    if folded.course.resolved is not None or prepared.state is not StageState.DONE:
        return folded
    return _fold(world, rules, _pinned(world, folded.status))


def _fold(world: World, rules: Rules, status: JobStatus) -> Folded:
    course = course_of(world, status)
    known = {stage.name: stage for stage in status.stages}
    stages = {
        planned.name: _seen(world, rules, course, planned, _kept(planned, known.get(planned.name)))
        for planned in course.plan.stages
    }
    stages = _present(course, stages, world)
    stages = _mended(course, stages)
    retried = status.retried
    # Taken away again, as tools that track a manifest do, it asks for nothing.
    if world.retry and world.retry != retried:
        stages = {name: _again(stage) for name, stage in stages.items()}
        retried = world.retry
    return Folded(course, status.model_copy(update={"stages": tuple(stages.values()), "retried": retried}))


def _kept(planned: PlannedStage, known: StageStatus | None) -> StageStatus:
    """What is recorded of a stage, as long as it is asked for the same; prepare is asked but once."""
    if known is None:
        return StageStatus(name=planned.name)
    same = known.keys is None or known.keys.outputs == planned.recorded_keys().outputs
    if same or planned.stage is Stage.PREPARE:
        return known
    # Asked for A, then B, then A: the Job of the first A has ended, and what is published is B.
    turn = known.turn + 1 if planned.stage is Stage.PUBLISH else 0
    return StageStatus(name=planned.name, turn=turn)


def _seen(world: World, rules: Rules, course: Course, planned: PlannedStage, known: StageStatus) -> StageStatus:
    job = world.own_job(course.job_name_of(planned))
    if known.state is StageState.DONE:
        return _with_keys(known, course, planned)
    gone = job is None or job.turn < known.turn
    if gone and known.state is StageState.FAILED:
        return anew(known) if asked_anew(None, planned, known, rules.marks(world, course, planned, known)) else known
    if job is None or gone:
        return _refused(world, planned, without_job(known), course.job_name_of(planned))
    if job.ended or known.state is StageState.FAILED:
        return _ended(world, rules, course, (planned, job), known)
    return without_job(known) if job.deleting else _under_way(world, rules, planned, known, job)


def _ended(
    world: World, rules: Rules, course: Course, of: tuple[PlannedStage, StageJob], known: StageStatus
) -> StageStatus:
    """Of a stage that has failed, or whose Job has ended."""
    planned, job = of
    if known.state is not StageState.FAILED and job.behind(world.now):
        return known
    if job.state is JobState.COMPLETE and known.state is not StageState.FAILED:
        return complete(job, planned, known)
    if asked_anew(job, planned, known, rules.marks(world, course, planned, known)):
        return anew(known.model_copy(update={"turn": job.turn}))
    return failed(world, rules.settings, planned, known, job)


def _under_way(world: World, rules: Rules, planned: PlannedStage, known: StageStatus, job: StageJob) -> StageStatus:
    """Running, or waiting for something, or given up where that will not come."""
    failure = given_up(job, planned.stage, world.now, rules.settings.image_patience, world.warnings)
    if failure is not None:
        return with_failure(known, planned, failure, job)
    message = waiting_for(job, world.now, world.warnings)
    state = StageState.WAITING if message else StageState.RUNNING
    update: dict[str, object] = {"state": state, "message": message, "keys": keys_of(planned)}
    if message != ORDINARY or known.started is None:
        update["started"] = job.started or job.created
    return known.model_copy(update=update)


def _with_keys(done: StageStatus, course: Course, planned: PlannedStage) -> StageStatus:
    """prepare's keys follow from what it resolved; once recorded, no newer recipe changes them (contract 2)."""
    if done.keys is not None or course.resolved is None:
        return done
    return done.model_copy(update={"keys": planned.recorded_keys()})


def _taken(world: World, name: str) -> str:
    """That another's Job has the name, unless it is about to go: one of an earlier object of the same name is."""
    there = world.jobs.get(name)
    foreign = there is not None and there.owner != world.uid and not there.deleting
    return f"a Job that is not its own has its name: delete {name}" if foreign else ""


def _refused(world: World, planned: PlannedStage, known: StageStatus, name: str) -> StageStatus:
    """What the API server does not take now is waited for (a quota); what it never takes fails the stage."""
    if known.state is not StageState.WAITING:
        return known
    can_be, said = world.refused.get(planned.name, (True, ""))
    if can_be:
        return known.model_copy(update={"message": f"its Job is refused: {said}" if said else _taken(world, name)})
    message = f"the API server refuses the Job of {planned.name}: {said}"
    failure = failure_of(StageFailure(FailureClass.SPEC_INVALID, message))
    result = StageResult(stage=planned.stage, name=planned.variant, failure=failure)
    return known.model_copy(update={"state": StageState.FAILED, "message": message, "result": result})


def _present(course: Course, stages: dict[str, StageStatus], world: World) -> dict[str, StageStatus]:
    """Stages whose artifacts prepare has found in the store are done, without a Job, unless they were begun anew."""
    prepared = stages[Stage.PREPARE].result
    found = () if prepared is None else prepared.figures.get(PRESENT, ())
    with_present = dict(stages)
    for planned in course.plan.stages:
        known = stages[planned.name]
        untouched = known.state is StageState.WAITING and known.turn == 0
        begun = world.own_job(course.job_name_of(planned)) is not None
        if planned.stage in _SKIPPED and planned.name in found and untouched and not begun:
            result = StageResult(stage=planned.stage, reused=True)
            update = {"state": StageState.DONE, "result": result, "keys": planned.recorded_keys(), "message": ""}
            with_present[planned.name] = known.model_copy(update=update)
    return with_present


def _mended(course: Course, stages: dict[str, StageStatus]) -> dict[str, StageStatus]:
    """The makers of artifacts that others have found damaged run once more, and the others after them (contract 3)."""
    mended = dict(stages)
    for name, stage in stages.items():
        source = _damaged(course, mended, stage)
        if source is None:
            continue
        if not source.replace:
            mended[source.name] = anew(source, replace=True)
            _look_again(mended)
        if source.name != name:
            mended[name] = anew(stage)
    return mended


def _damaged(course: Course, stages: dict[str, StageStatus], found_by: StageStatus) -> StageStatus | None:
    """Whose artifact a failed stage has found damaged or gone; None where making it anew has been tried already."""
    failure = None if found_by.result is None else found_by.result.failure
    if failure is None or failure.artifact is None or failure.failure is not FailureClass.ARTIFACT_CORRUPT:
        return None
    made_by = maker(course.plan, failure.artifact)
    source = None if made_by is None else stages[made_by.name]
    tried = source is not None and source.replace and source.state in (StageState.DONE, StageState.FAILED)
    return None if tried else source


def _look_again(stages: dict[str, StageStatus]) -> None:
    """publish names digests of what is made anew."""
    published = stages.get(Stage.PUBLISH)
    if published is not None and published.state is StageState.DONE:
        stages[Stage.PUBLISH] = anew(published)


def _again(stage: StageStatus) -> StageStatus:
    """A person's retry: the failed stages once more, and at once those that wait for the store."""
    waits = stage.state is StageState.WAITING and stage.away_since is not None
    return anew(stage) if waits or stage.state is StageState.FAILED else stage


def _pinned(world: World, status: JobStatus) -> JobStatus:
    """The status with the sources that prepare has resolved, which its result needs not repeat."""
    prepared = status.stages[0]
    result = prepared.result
    assert result is not None  # noqa: S101  # it is done
    figures = dict(result.figures)
    try:
        resolved = whole(figures.pop(RESOLVED), world.spec)
    except (KeyError, TypeError, ValueError) as error:
        message = f"prepare did not say what the sources are: {error}"
        failure = failure_of(StageFailure(FailureClass.INTERNAL, message), Stage.PREPARE)
        untold = {"state": StageState.FAILED, "result": result.model_copy(update={"failure": failure})}
        return status.model_copy(update={"stages": (prepared.model_copy(update=untold),)})
    told = prepared.model_copy(update={"result": result.model_copy(update={"figures": figures})})
    return status.model_copy(update={"stages": (told, *status.stages[1:]), "resolved": resolved.to_json_dict()})


def done(stages: Iterable[StageStatus]) -> set[str]:
    """The names of those that are."""
    return {stage.name for stage in stages if stage.state is StageState.DONE}
