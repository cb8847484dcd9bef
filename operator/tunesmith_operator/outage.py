"""A stage whose store was away is begun anew after growing pauses, as long as patience lasts (contract 10).

Its Job has tried for some minutes by then and holds no node any more. Only of stages after prepare: a store that has
never answered is more likely named wrongly.
"""

from datetime import datetime, timedelta

from tunesmith_api.failures import FailureClass
from tunesmith_api.stages import Failure, Stage
from tunesmith_api.status import JobStatus, StageState, StageStatus
from tunesmith_operator.world import JobState, StageJob, World

# Our own choice: sooner a service is seldom back, and later a GPU would wait for a store that is.
_SHORTEST, _LONGEST = timedelta(minutes=1), timedelta(minutes=10)


def away_since(known: StageStatus, job: StageJob, stage: Stage, failure: Failure) -> datetime | None:
    """Since when the store is away by what a failed Job says; None where it says something else."""
    if failure.failure is not FailureClass.STORE_UNAVAILABLE or stage is Stage.PREPARE:
        return None
    return known.away_since or ended_at(job)


def after_checkpoint(before: JobStatus, after: JobStatus) -> JobStatus:
    """The later status, in which the store is back if the training has stored a checkpoint in between.

    What is away then is away anew. That a pod works proves nothing: a store may be read and not take what is written.
    """
    stored = 0 if before.checkpoint is None else before.checkpoint.step
    if after.checkpoint is None or after.checkpoint.step <= stored:
        return after
    stages = (
        each.model_copy(update={"away_since": None}) if each.name == Stage.TRAIN else each for each in after.stages
    )
    return after.model_copy(update={"stages": tuple(stages)})


def tried_at(since: datetime, job: StageJob) -> datetime:
    """When it is tried again: after as long as it has lasted, within bounds."""
    return ended_at(job) + min(max(ended_at(job) - since, _SHORTEST), _LONGEST)


def next_try(world: World, status: JobStatus) -> datetime | None:
    """When the first of the stages that wait for the store is begun anew."""
    waits = {each.name: each for each in status.stages if each.state is StageState.WAITING and each.away_since}
    moments = [
        tried_at(known.away_since, job)
        for job in world.own_jobs
        if job.state is JobState.FAILED
        and (known := waits.get(job.stage)) is not None
        and known.away_since is not None
        and known.turn == job.turn
    ]
    return min(moments, default=None)


def ended_at(job: StageJob) -> datetime:
    """When a Job ended."""
    return job.finished or job.created
