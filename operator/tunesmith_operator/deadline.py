"""When spec.activeDeadlineSeconds is over: the operator ends the job then, and its Jobs do where it is down."""

from datetime import datetime, timedelta

from tunesmith_api.status import JobStatus
from tunesmith_operator.world import World

# A Job's own deadline comes a little later, so that the operator has the first word and can say what was late.
_LATER = timedelta(minutes=1)


def deadline(world: World, status: JobStatus) -> datetime | None:
    """When the job's time is over, None where it is unset or the clock stands still."""
    limit = world.spec.active_deadline_seconds
    if limit is None or status.started is None or status.suspended_since is not None:
        return None
    return status.started + timedelta(seconds=limit + status.suspended_seconds)


def seconds_left(world: World) -> int | None:
    """How long a Job that is made now may run by itself (batch/v1, activeDeadlineSeconds); None: without a limit."""
    limit = world.spec.active_deadline_seconds
    if limit is None:
        return None
    ends = deadline(world, world.status)
    left = timedelta(seconds=limit) if ends is None else max(ends - world.now, timedelta())
    return int((left + _LATER).total_seconds())
