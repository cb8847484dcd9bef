"""What a job has used: GPU seconds out of how long its pods ran, CPU seconds out of what its stages said.

Since when a pod runs stands in the status, and is counted in the write that takes it away: once, whatever is lost.
"""

from collections.abc import Iterable
from datetime import datetime

from tunesmith_api.stages import Stage
from tunesmith_api.status import JobStatus, StageState, StageStatus
from tunesmith_operator.world import StagePod, World

_ENDED = (StageState.DONE, StageState.FAILED)


def with_spending(world: World, status: JobStatus) -> JobStatus:
    """The status with what was used since the last write; a pod that nobody saw end is counted until it was missed."""
    before = {stage.name: stage for stage in world.status.stages}
    stages = tuple(stage.model_copy(update={"running_since": _since(world, stage.name)}) for stage in status.stages)
    after = {stage.name: stage for stage in stages}
    names = [name for name in before.keys() | after.keys() if _has_gpu(world, name)]
    gpu = sum(_ran(world, name, before.get(name), after.get(name)) for name in sorted(names))
    cpu = sum(_said(before.get(stage.name), stage) for stage in stages)
    update = {"gpu_seconds": status.gpu_seconds + gpu, "cpu_seconds": round(status.cpu_seconds + cpu, 3)}
    return status.model_copy(update={"stages": stages, **update})


def _has_gpu(world: World, name: str) -> bool:
    return name == Stage.TRAIN and world.spec.training.gpu is not None


def _ran(world: World, name: str, before: StageStatus | None, after: StageStatus | None) -> float:
    """Seconds that are over: of the pod that ran at the last write, or of one that began and ended since."""
    since = None if before is None else before.running_since
    if since is not None:
        same = after is not None and after.running_since == since
        return 0.0 if same else max((_end(world, name, since) - since).total_seconds(), 0.0)
    ended = after is not None and after.state in _ENDED and (before is None or before.state not in _ENDED)
    return sum(_seconds(pod) for pod in _pods(world, name)) if ended else 0.0


def _since(world: World, name: str) -> datetime | None:
    running = (pod.started for pod in _pods(world, name) if pod.started is not None and pod.ended is None)
    return max(running, default=None)


def _end(world: World, name: str, since: datetime) -> datetime:
    ends = (pod.ended.finished for pod in _pods(world, name) if pod.started == since and pod.ended is not None)
    return next((end for end in ends if end is not None), world.now)


def _seconds(pod: StagePod) -> float:
    if pod.ended is None or pod.ended.started is None or pod.ended.finished is None:
        return 0.0
    return (pod.ended.finished - pod.ended.started).total_seconds()


def _pods(world: World, name: str) -> Iterable[StagePod]:
    return (pod for job in world.own_jobs if job.stage == name for pod in job.pods)


def _said(before: StageStatus | None, after: StageStatus) -> float:
    known = None if before is None else before.result
    return 0.0 if known is not None or after.result is None else after.result.cpu_seconds
