"""What is counted of a job, out of two of its statuses and its Jobs: for metrics, which name none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from tunesmith_api.failures import FailureClass
from tunesmith_api.stages import stage_of
from tunesmith_api.status import JobStatus, StageState, StageStatus
from tunesmith_operator.world import StageJob

# The reason of a completion that is no failure.
COMPLETED = "Completed"
# Within this of its start, or of its release from a queue, a Job makes its first pod (the Job controller's own pace).
_AT_ONCE = timedelta(minutes=1)


class Counted(StrEnum):
    """What there are counts of."""

    COMPLETION = "completion"
    STAGE_SECONDS = "stage seconds"
    WAIT_SECONDS = "wait seconds"
    RETRY = "retry"
    GPU_SECONDS = "GPU seconds"
    CPU_SECONDS = "CPU seconds"
    ARTIFACT_BYTES = "artifact bytes"


@dataclass(frozen=True, slots=True)
class Count:
    """One thing to count, with the values of its metric's labels."""

    what: Counted
    labels: tuple[str, ...] = ()
    value: float = 1.0


def history(before: JobStatus, after: JobStatus, jobs: Sequence[StageJob]) -> Iterator[Count]:
    """What has happened between two statuses of a job, whose Jobs are these by now."""
    if before.finished is None and after.finished is not None:
        reason = COMPLETED if after.failure is None else after.failure.failure.value
        yield Count(Counted.COMPLETION, (after.phase, reason))
    for what, more in (
        (Counted.GPU_SECONDS, after.gpu_seconds - before.gpu_seconds),
        (Counted.CPU_SECONDS, after.cpu_seconds - before.cpu_seconds),
    ):
        if more > 0:
            yield Count(what, (), more)
    known = {stage.name: stage for stage in before.stages}
    for stage in after.stages:
        yield from _of_stage(jobs, known.get(stage.name) or StageStatus(name=stage.name), stage)


def _of_stage(jobs: Sequence[StageJob], before: StageStatus, after: StageStatus) -> Iterator[Count]:
    stage = stage_of(after.name) or ""
    other = before.state is StageState.DONE and before.keys != after.keys
    if after.turn > before.turn and not other:
        yield Count(Counted.RETRY, (stage, _why_anew(before, after)))
    waited = _waited(jobs, before, after)
    if waited is not None:
        yield Count(Counted.WAIT_SECONDS, (stage,), waited)
    if after.state is before.state or after.state not in (StageState.DONE, StageState.FAILED):
        return
    reused = after.result is not None and after.result.reused
    if after.started is not None and after.finished is not None:
        result = "Reused" if reused else after.state.value
        yield Count(Counted.STAGE_SECONDS, (stage, result), _seconds(after.started, after.finished))
    made = None if after.result is None or reused else after.result.figures.get("bytes")
    if after.state is StageState.DONE and isinstance(made, int):
        yield Count(Counted.ARTIFACT_BYTES, (stage,), made)


def _why_anew(before: StageStatus, after: StageStatus) -> str:
    """The class of the failure that it is begun anew after; Changed where the manifest or the installation has."""
    if after.replace and not before.replace:
        return FailureClass.ARTIFACT_CORRUPT.value
    if before.result is not None and before.result.failure is not None:
        return before.result.failure.failure.value
    return FailureClass.STORE_UNAVAILABLE.value if after.away_since is not None else "Changed"


def _waited(jobs: Sequence[StageJob], before: StageStatus, after: StageStatus) -> float | None:
    """How long it has waited for its pod to run, once that does.

    Since its Job was made, its time in a queue included, for the pod that the Job has begun with; one that follows on a
    pod that was taken away has waited since it was made.
    """
    begins = before.state is StageState.WAITING and after.state in (StageState.RUNNING, StageState.DONE)
    job = next((job for job in jobs if job.stage == after.name and job.turn == after.turn), None)
    pod = None if job is None else job.newest_pod
    if not begins or job is None or pod is None or pod.started is None:
        return None
    first = pod.created <= (job.started or job.created) + _AT_ONCE
    return _seconds(job.created if first else pod.created, pod.started)


def _seconds(since: datetime, until: datetime) -> float:
    return max((until - since).total_seconds(), 0.0)
