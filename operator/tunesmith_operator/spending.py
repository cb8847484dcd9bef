"""What a job has used: GPU seconds out of how long its pods ran, CPU seconds out of what its stages said.

A stage's pods run one after another, so two moments in the status tell what is counted: until when, and since when the
pod that runs does. Both are written with the sums, and each second is counted once, whatever is lost in between.
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
    gpu = cpu = 0.0
    stages = []
    for stage in status.stages:
        known = before.get(stage.name, StageStatus(name=stage.name))
        spans = list(_over(world, known))
        until = max((end for _, end in spans), default=known.counted_until)
        gpu += _seconds(spans, known.counted_until) if _has_gpu(world, stage.name) else 0.0
        cpu += stage.result.cpu_seconds if known.result is None and stage.result is not None else 0.0
        now = {"running_since": _running_since(world, stage.name), "counted_until": until}
        stages.append(stage.model_copy(update=now))
    sums = {"gpu_seconds": status.gpu_seconds + gpu, "cpu_seconds": round(status.cpu_seconds + cpu, 3)}
    return status.model_copy(update={"stages": tuple(stages), **sums})


def _has_gpu(world: World, name: str) -> bool:
    return name == Stage.TRAIN and world.spec.training.gpu is not None


def _over(world: World, known: StageStatus) -> Iterator[Span]:
    """When the pods ran that run no more: those that are seen to have ended, and one that is gone."""
    pods = list(_pods(world, known.name))
    for pod in pods:
        if pod.ended is not None and pod.ended.started is not None and pod.ended.finished is not None:
            yield pod.ended.started, pod.ended.finished
    since = known.running_since
    if since is not None and since not in {pod.started for pod in pods}:
        yield since, world.now


def _seconds(spans: list[Span], counted: datetime | None) -> float:
    rest = ((start if counted is None else max(start, counted), end) for start, end in spans)
    return sum(max((end - start).total_seconds(), 0.0) for start, end in rest)


def _running_since(world: World, name: str) -> datetime | None:
    running = (pod.started for pod in _pods(world, name) if pod.started is not None and pod.ended is None)
    return max(running, default=None)


def _pods(world: World, name: str) -> Iterator[StagePod]:
    return (pod for job in world.own_jobs if job.stage == name for pod in job.pods)
