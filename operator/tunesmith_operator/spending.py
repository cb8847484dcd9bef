"""What a job has used: GPU seconds out of how long its pods ran, CPU seconds out of what its stages said.

Only train holds a GPU, and its pods run one after another: two moments in its status tell what is counted, until when,
and since when the pod that runs does. Both are written with the sum, and each second is counted once, whatever is lost
in between.
"""

from collections.abc import Iterator
from datetime import datetime

from tunesmith_api.stages import Stage
from tunesmith_api.status import JobStatus, StageStatus
from tunesmith_operator.world import StagePod, World

Span = tuple[datetime, datetime]


def with_spending(world: World, status: JobStatus) -> JobStatus:
    """The status with what was used since the last write; a pod that nobody saw end is counted until it was missed."""
    before = {stage.name: stage for stage in world.status.stages}
    cpu = sum(_cpu_seconds(before.get(stage.name), stage) for stage in status.stages)
    status = status.model_copy(update={"cpu_seconds": round(status.cpu_seconds + cpu, 3)})
    if world.spec.training.gpu is None or Stage.TRAIN not in before:
        return status
    known = before[Stage.TRAIN]
    spans = list(_over(world, known))
    until = max((end for _, end in spans if known.counted_until is None or end > known.counted_until), default=None)
    now = {"running_since": _running_since(world), "counted_until": until or known.counted_until}
    stages = tuple(stage.model_copy(update=now) if stage.name == Stage.TRAIN else stage for stage in status.stages)
    gpu = status.gpu_seconds + _seconds(spans, known.counted_until)
    return status.model_copy(update={"stages": stages, "gpu_seconds": gpu})


def _cpu_seconds(before: StageStatus | None, after: StageStatus) -> float:
    told = before is not None and before.result is not None
    return 0.0 if told or after.result is None else after.result.cpu_seconds


def _over(world: World, known: StageStatus) -> Iterator[Span]:
    """When the pods ran that run no more: those that are seen to have ended, and one that is gone."""
    pods = list(_pods(world))
    for pod in pods:
        if pod.ended is not None and pod.ended.started is not None and pod.ended.finished is not None:
            yield pod.ended.started, pod.ended.finished
    since = known.running_since
    if since is not None and since not in {pod.started for pod in pods}:
        yield since, world.now


def _seconds(spans: list[Span], counted: datetime | None) -> float:
    rest = ((start if counted is None else max(start, counted), end) for start, end in spans)
    return sum(max((end - start).total_seconds(), 0.0) for start, end in rest)


def _running_since(world: World) -> datetime | None:
    running = (pod.started for pod in _pods(world) if pod.started is not None and pod.ended is None)
    return max(running, default=None)


def _pods(world: World) -> Iterator[StagePod]:
    return (pod for job in world.own_jobs if job.stage == Stage.TRAIN for pod in job.pods)
