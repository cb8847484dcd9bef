"""How far a job is, out of what its pods have said last; written at most once in ten seconds (contract 11)."""

import math
import re
from datetime import datetime, timedelta

from tunesmith_api.progress import ProgressReport
from tunesmith_api.stages import Kind, Stage, stage_of
from tunesmith_api.status import Checkpoint, JobStatus, Phase, Progress, StageState, StageStatus
from tunesmith_operator.world import Heard, World

# Often enough for a person who looks on; more would be writes of etcd for nobody (a trainer posts every five seconds).
WRITE_EVERY = timedelta(seconds=10)
# What stages call a phase; a pod could say anything.
_PLAIN = re.compile(r"[\w .-]{1,40}", re.ASCII)


def with_progress(world: World, status: JobStatus) -> JobStatus:
    """The status with the newest of what was heard; what was written last stays until the next is due."""
    update = {"progress": _progress(world, status), "checkpoint": _checkpoint(world, status)}
    return status.model_copy(update=update)


def next_write(world: World, status: JobStatus) -> datetime | None:
    """When what was heard since the last write is to be written."""
    before, newest = status.progress, _newest(world, status)
    if before is None or before.time is None or newest is None or newest[1].time <= before.time:
        return None
    return before.time + WRITE_EVERY


def _progress(world: World, status: JobStatus) -> Progress | None:
    before, newest = status.progress, _newest(world, status)
    time = None if before is None else before.time
    if status.phase is Phase.COMPLETE:
        return Progress(percent=100, loss=_loss(status), time=time)
    if newest is not None and _due(before, newest[1], world.now):
        return _told(*newest, status, world.now)
    if before is None or before.stage in {stage_of(stage.name) for stage in _running(status)}:
        return before
    return Progress(percent=_percent(status, 0), loss=_loss(status), time=time)


def _due(before: Progress | None, heard: Heard, now: datetime) -> bool:
    if before is None or before.time is None:
        return True
    return heard.time > before.time and now - before.time >= WRITE_EVERY


def _told(stage: StageStatus, heard: Heard, status: JobStatus, now: datetime) -> Progress:
    report, loss = heard.report, _number(heard.report, "loss")
    return Progress(
        stage=stage_of(stage.name),
        percent=_percent(status, report.percent),
        step=_count(report, "current_step"),
        steps=_count(report, "total_steps"),
        loss=_loss(status) if loss is None else _shown(loss),
        phase=_phase(report),
        seconds_left=report.seconds_left,
        time=now,
    )


def _loss(status: JobStatus) -> float | None:
    """The training's own figure once it has one, till then what a pod has said last."""
    train = next((stage for stage in status.stages if stage.name == Stage.TRAIN), None)
    figure = None if train is None or train.result is None else train.result.figures.get("trainLoss")
    if isinstance(figure, int | float) and math.isfinite(figure):
        return _shown(figure)
    return None if status.progress is None else status.progress.loss


def _shown(loss: float) -> float:
    """A column of kubectl get shows all digits that there are."""
    return round(loss, 4)


def _percent(status: JobStatus, running: int) -> int | None:
    """Each stage counts the same; None while it is not known which there are."""
    if status.resolved is None:
        return None
    done = sum(stage.state is StageState.DONE for stage in status.stages)
    return (100 * done + running) // len(status.stages)


def _checkpoint(world: World, status: JobStatus) -> Checkpoint | None:
    """The newest that the training has told of, until its result is there."""
    train = next((stage for stage in status.stages if stage.name == Stage.TRAIN), None)
    if train is None or train.keys is None or train.state is StageState.DONE:
        return None
    key = train.keys.outputs[Kind.ADAPTER]
    known = status.checkpoint if status.checkpoint is not None and status.checkpoint.key == key else None
    # The one that is saved when a pod is asked to go is told by its last words.
    steps = [_count(heard.report, "checkpoint_step") for heard in _heard(world, train, ended=True)]
    newest = max((step for step in steps if step), default=0)
    return known if newest <= (0 if known is None else known.step) else Checkpoint(key=key, step=newest)


def _newest(world: World, status: JobStatus) -> tuple[StageStatus, Heard] | None:
    """Of stages that run side by side the one that has said something last."""
    told = ((stage, heard) for stage in _running(status) for heard in _heard(world, stage))
    return max(told, key=lambda each: each[1].time, default=None)


def _running(status: JobStatus) -> list[StageStatus]:
    return [stage for stage in status.stages if stage.state is StageState.RUNNING]


def _heard(world: World, stage: StageStatus, *, ended: bool = False) -> list[Heard]:
    pods = [pod for job in world.own_jobs if job.stage == stage.name for pod in job.pods]
    return [pod.heard for pod in pods if pod.heard is not None and (ended or pod.ended is None)]


def _count(report: ProgressReport, name: str) -> int | None:
    value = _number(report, name)
    return None if value is None or value < 0 else int(value)


def _phase(report: ProgressReport) -> str | None:
    """A pod's own word: a plain one of a few letters, or none."""
    said = report.metrics.get("phase", "")
    return said if _PLAIN.fullmatch(said) else None


def _number(report: ProgressReport, name: str) -> float | None:
    """A metric that is a number: JSON has no other."""
    try:
        value = float(report.metrics[name])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None
