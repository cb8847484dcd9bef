"""Jobs and pods that should have gone on and say nothing: which, since when, and when to look for events next."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from tunesmith_operator.waiting import STARTING_REASONS
from tunesmith_operator.world import StageJob, World

# A Job has its pod within a second and a pod its volumes within a few, where nothing is wrong. Our own choice, as is
# the longest pause: a person who has mended something looks at the status some minutes later.
_SILENT = timedelta(seconds=10)
_LONGEST = timedelta(minutes=5)


def silent(world: World) -> Iterator[tuple[str, datetime]]:
    """The UIDs of Jobs and pods that should have gone on by now and say nothing, and since when."""
    for job in world.own_jobs:
        found = _waits(job)
        if found is not None and world.now >= found[1] + _SILENT:
            yield found


def next_look(world: World) -> datetime | None:
    """When events are asked for next."""
    waits = (found[1] for found in map(_waits, world.own_jobs) if found is not None)
    return min((max(since + _SILENT, world.now + pause(since, world.now)) for since in waits), default=None)


def pause(since: datetime, now: datetime) -> timedelta:
    """As long again as it has lasted, within bounds."""
    return min(max(now - since, _SILENT), _LONGEST)


def _waits(job: StageJob) -> tuple[str, datetime] | None:
    if job.ended or job.suspended or job.deleting:
        return None
    pod = job.newest_pod
    if pod is None:
        return (job.uid, job.started or job.created)
    starting = pod.waiting is None or pod.waiting[0] in STARTING_REASONS
    idle = pod.started is None and pod.ended is None and pod.gone_by is None
    return (pod.uid, pod.scheduled) if idle and starting and pod.scheduled is not None else None
