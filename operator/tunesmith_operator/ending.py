"""What a stage's ended Job makes of its record: done, failed, or begun anew where that helps without a person."""

from collections.abc import Mapping

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.plan import PlannedStage
from tunesmith_api.stages import Failure, Stage, StageResult, failure_of
from tunesmith_api.status import StageState, StageStatus
from tunesmith_operator.deadline import deadline
from tunesmith_operator.failure_of_job import failure_of_job
from tunesmith_operator.given import wanted_by
from tunesmith_operator.last_words import result_of
from tunesmith_operator.names import GIVEN_ANNOTATION
from tunesmith_operator.outage import away_since, ended_at, tried_at
from tunesmith_operator.settings import OperatorSettings
from tunesmith_operator.world import DEADLINE_EXCEEDED, StageJob, World


def complete(job: StageJob, planned: PlannedStage, known: StageStatus) -> StageStatus:
    """Done if its result can be read.

    Where the pod is gone the Job is made again, and the stage answers from its artifact; once also where the pod has
    said nothing. What nobody can read would be the same another time.
    """
    result = result_of(job.pods)
    if result is not None and result.failure is None:
        done = {"state": StageState.DONE, "message": "", "result": result, "keys": keys_of(planned), "away_since": None}
        return known.model_copy(update=done | {"started": job.started, "finished": job.finished})
    newest = job.newest_pod
    if newest is None or newest.ended is None:
        return without_job(known)
    said = newest.ended.message.strip()[:200]
    if not said and job.turn == 0:
        return anew(known)
    message = f"{planned.name} has ended well and said nothing that this operator can read: {said or 'nothing at all'}"
    hint = "Check that the operator's images are of its own version."
    failure = failure_of(StageFailure(FailureClass.INTERNAL, message, hint), planned.stage)
    return with_failure(known, planned, failure, job)


def failed(
    world: World, settings: OperatorSettings, planned: PlannedStage, known: StageStatus, job: StageJob
) -> StageStatus:
    """Failed, or to be begun anew: after an outage of the store, or of a Job's deadline that was put off meanwhile."""
    if known.state is StageState.FAILED:
        return known
    if job.reason == DEADLINE_EXCEEDED and job.limit:
        return _late(world, known, job)
    failure = failure_of_job(job, planned.stage)
    since = away_since(known, job, planned.stage, failure)
    if since is None or ended_at(job) >= since + settings.store_patience:
        return with_failure(known, planned, failure, job)
    moment = tried_at(since, job)
    update = {"turn": job.turn, "keys": keys_of(planned), "away_since": since}
    if world.now >= moment:
        return anew(known.model_copy(update=update))
    message = f"the store is away since {since:%H:%M} UTC, tried again at {moment:%H:%M:%S}: {failure.message}"
    return known.model_copy(update=update | {"state": StageState.WAITING, "message": message})


def _late(world: World, known: StageStatus, job: StageJob) -> StageStatus:
    """Ended by the deadline that was the job's then: anew where there is time again, else the job is late."""
    waits = known.model_copy(update={"turn": job.turn, "state": StageState.WAITING, "message": ""})
    ends = deadline(world, world.status)
    return anew(waits) if ends is None or world.now < ends else waits


def asked_anew(job: StageJob | None, planned: PlannedStage, known: StageStatus, wanted: Mapping[str, str]) -> bool:
    """Whether it failed for want of something that the Job wanted now, by its annotations, has and its own had not.

    What that was stands in its record once the failure does: the Job may be gone. Half the batch is tried by the
    training itself, in the pod that it has.
    """
    failure, before = None if known.result is None else known.result.failure, known.wanted
    if job is not None and known.state is not StageState.FAILED:
        failure = failure_of_job(job, planned.stage)
        before = wanted_by(failure.failure, job.given)
    return failure is not None and before not in (None, wanted_by(failure.failure, wanted[GIVEN_ANNOTATION]))


def with_failure(known: StageStatus, planned: PlannedStage, failure: Failure, job: StageJob) -> StageStatus:
    """The record of a stage that has failed."""
    result = StageResult(stage=planned.stage, name=planned.variant, failure=failure)
    update = {"state": StageState.FAILED, "message": failure.message, "result": result, "keys": keys_of(planned)}
    update["wanted"] = wanted_by(failure.failure, job.given)
    times = {"started": job.started or job.created, "finished": job.finished, "away_since": None}
    return known.model_copy(update=update | times)


def without_job(known: StageStatus) -> StageStatus:
    """A stage that had a Job and has none any more waits for another."""
    if known.state is StageState.RUNNING:
        return known.model_copy(update={"state": StageState.WAITING, "message": ""})
    return known


def anew(stage: StageStatus, *, replace: bool = False) -> StageStatus:
    """The record of a stage that is begun anew; its Job of now will go."""
    update = {"turn": stage.turn + 1, "state": StageState.WAITING, "result": None, "wanted": None, "message": ""}
    return stage.model_copy(update=update | {"replace": replace or stage.replace, "finished": None})


def keys_of(planned: PlannedStage) -> object:
    """prepare's keys are known with its result, and then from the plan."""
    return None if planned.stage is Stage.PREPARE else planned.recorded_keys()
