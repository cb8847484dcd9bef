"""A stage whose store was away is begun anew after growing pauses, as long as patience lasts (contract 10).

Its Job has tried for some minutes by then and holds no node any more. Only of stages after prepare: a store that has
never answered is more likely named wrongly.
"""

from datetime import datetime, timedelta

from tunesmith_api.failures import FailureClass
from tunesmith_api.stages import Failure, Stage
from tunesmith_api.status import JobStatus, StageState, StageStatus
from tunesmith_operator.world import JobState, StageJob, World

_SHORTEST, _LONGEST = timedelta(minutes=1), timedelta(minutes=10)


def away_since(known: StageStatus, job: StageJob, stage: Stage, failure: Failure) -> datetime | None:
    """Since when the store is away by what a failed Job says; None where it says something else.

    A pod that has worked for longer than the longest pause had a store at first: it is away anew.
    """
    if failure.failure is not FailureClass.STORE_UNAVAILABLE or stage is Stage.PREPARE:
        return None
    ended = None if job.newest_pod is None else job.newest_pod.ended
    worked = ended is not None and ended.started and ended.finished and ended.finished - ended.started > _LONGEST
    return ended_at(job) if known.away_since is None or worked else known.away_since


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
