"""How a job of a cluster stands, drawn: a table of its stages, one of what it made, and lines where nobody redraws."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunesmith.cli.terminal import visible
from tunesmith.cli.view import duration, result_detail
from tunesmith.cluster.seen import SeenJob
from tunesmith.figures import megabytes
from tunesmith_api.status import ArtifactStatus, JobStatus, Phase, Progress, StageStatus

_STYLES = {
    "Done": "green",
    "Complete": "green",
    "Passed": "green",
    "Failed": "red",
    "Running": "bold",
    "Suspended": "yellow",
    "Inconclusive": "yellow",
}
_NOT_SEEN = "no operator has looked at it yet"
_CHANGED = "the operator has not looked at its last change yet"
_SHOWN_FIGURES = 3


def standing(seen: SeenJob, now: datetime) -> RenderableType:
    """Everything there is to say of a job at a moment (with its time zone, in which moments are told)."""
    parts: list[RenderableType] = [Text(headline(seen), style=_STYLES.get(seen.status.phase, ""))]
    if seen.status.stages:
        parts.append(_stages(seen.status, now))
    if seen.status.artifacts:
        parts.append(_artifacts(seen.status))
    parts += [Text(line, style="red") for line in failure_lines(seen)]
    return Group(*parts)


def standings(jobs: Iterable[SeenJob], now: datetime, *, with_namespace: bool) -> RenderableType:
    """The jobs, a line each: phase, files that passed, how far it is, since when, and what is happening or why not."""
    table = Table(box=None, pad_edge=False)
    for name in (*(["namespace"] if with_namespace else []), "job", "phase", "files", "at", "began"):
        table.add_column(name, no_wrap=True)
    table.add_column("", overflow="fold")
    for seen in jobs:
        status = seen.status
        phase = Text(status.phase.value, style=_STYLES.get(status.phase.value, ""))
        percent = None if status.progress is None else status.progress.percent
        at = "" if percent is None else f"{percent} %"
        began = "" if status.started is None else f"{status.started.astimezone(now.tzinfo):%Y-%m-%d %H:%M}"
        said = status.failure.message if status.failure is not None else _said(seen)
        whose = (seen.namespace, seen.name) if with_namespace else (seen.name,)
        table.add_row(*whose, phase, status.summary, at, began, Text(_one_line(said)))
    return table


def headline(seen: SeenJob) -> str:
    """Name, phase, how many files passed, how far it is, and what is happening."""
    status = seen.status
    parts: list[str] = [status.phase.value]
    if status.summary:
        parts.append(f"{status.summary} files passed their gates")
    if status.progress is not None and status.finished is None:
        parts += _progress(status.progress)
    said = _said(seen)
    told = f"{seen.name}: {', '.join(parts)}"
    return f"{told}: {_one_line(said)}" if said and status.failure is None else told


def _said(seen: SeenJob) -> str:
    if seen.untouched:
        return _NOT_SEEN
    return _CHANGED if seen.status.finished is not None and not seen.settled else seen.status.message


def _progress(progress: Progress) -> Iterator[str]:
    if progress.percent is not None:
        yield f"{progress.percent} %"
    if progress.phase and progress.step is None and progress.stage is not None:
        yield f"{progress.stage.value} {progress.phase}"
    if progress.step is not None and progress.steps:
        of = f" of {progress.stage.value}" if progress.stage is not None else ""
        yield f"step {progress.step} of {progress.steps}{of}"
    if progress.loss is not None:
        yield f"loss {progress.loss:.4g}"
    if progress.seconds_left is not None:
        # Of this stage alone: what the next ones take is not known yet.
        of = "" if progress.stage is None else f" of {progress.stage.value}"
        yield f"about {duration(progress.seconds_left)}{of} left"


def _stages(status: JobStatus, now: datetime) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("stage", "state", "started", "time"):
        table.add_column(name, no_wrap=True)
    table.add_column("", overflow="fold")
    for stage in status.stages:
        state = Text(stage.state.value, style=_STYLES.get(stage.state.value, "dim"))
        began = "" if stage.started is None else f"{stage.started.astimezone(now.tzinfo):%Y-%m-%d %H:%M:%S}"
        table.add_row(stage.name, state, began, _took(stage, now), Text(_detail(stage)))
    return table


def _took(stage: StageStatus, now: datetime) -> str:
    if stage.started is None or stage.state.value == "Waiting":
        return ""
    return duration(max(((stage.finished or now) - stage.started).total_seconds(), 0.0))


def _detail(stage: StageStatus) -> str:
    if stage.message:
        return _one_line(stage.message)
    return "" if stage.result is None else _one_line(result_detail(stage.result))


def _artifacts(status: JobStatus) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("made", "MB", "gates"):
        table.add_column(name, no_wrap=True, justify="right" if name == "MB" else "left")
    table.add_column("", overflow="fold")
    for artifact in status.artifacts:
        size = "" if artifact.bytes is None else megabytes(artifact.bytes)
        verdict = Text(artifact.verdict, style=_STYLES.get(artifact.verdict, ""))
        table.add_row(artifact.file, size, verdict, Text(_figures(artifact)))
    return table


def _figures(artifact: ArtifactStatus) -> str:
    plain = {name: value for name, value in artifact.figures.items() if isinstance(value, int | float | str)}
    told = [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in plain.items()]
    return ", ".join(told[:_SHOWN_FIGURES])


def failure_lines(seen: SeenJob) -> list[str]:
    """Why it failed, what helps, and how it is tried again."""
    failure = seen.status.failure
    if failure is None:
        return []
    where = "" if failure.stage is None else f" in {failure.stage.value}"
    lines = [f"{failure.failure.value}{where}: {visible(failure.message)}"]
    lines += [visible(failure.hint)] if failure.hint else []
    if failure.stage is not None:
        lines.append(f"Its log: tunesmith logs {seen.name} -n {seen.namespace}")
    if failure.retry_helps and seen.status.phase is Phase.FAILED:
        lines.append(f"Again: tunesmith retry {seen.name} -n {seen.namespace}")
    return lines


def news(before: SeenJob | None, seen: SeenJob) -> list[str]:
    """What has changed since a job was seen last, as lines of a log: stages that began or ended, and the headline."""
    known = {} if before is None else {stage.name: stage for stage in before.status.stages}
    lines = []
    for stage in seen.status.stages:
        earlier = known.get(stage.name)
        same = earlier is not None and (earlier.state, earlier.message) == (stage.state, stage.message)
        if same or (earlier is None and stage.state.value == "Waiting" and not stage.message):
            continue
        took = _took(stage, stage.finished) if stage.finished is not None else ""
        told = ", ".join(part for part in (f"{stage.name}: {stage.state.value}", _detail(stage)) if part)
        lines.append(f"{told} [{took}]" if took else told)
    if before is None or headline(before) != headline(seen):
        lines.append(headline(seen))
    return lines


def _one_line(text: str) -> str:
    return " ".join(visible(text).split())
