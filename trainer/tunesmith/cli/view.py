"""What a run tells a person: one live table on a terminal, plain lines elsewhere, JSON lines for programs."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tunesmith.local.runner import Event
from tunesmith_api.failures import FailureClass
from tunesmith_api.plan import Plan
from tunesmith_api.progress import ProgressReport
from tunesmith_api.stages import StageResult

# Without a terminal a stage says how far it is at these intervals (seconds): often enough for a person who watches a
# log, seldom enough for the log.
_LINE_SECONDS = 10.0
_REFRESHES_PER_SECOND = 4

_WORDS = {
    "started": "running",
    "progress": "running",
    "done": "done",
    "failed": "failed",
    "stopping": "stopping",
}
_STYLES = {"done": "green", "failed": "red", "running": "bold", "stopping": "yellow", "stopped": "yellow"}
# Columns of the board beside the name's and the figures': with names of 16 they leave these 33 of a terminal's 80.
_BAR, _STATE, _TIME = 12, 8, 7


@dataclass(slots=True)
class Row:
    """One stage as it is shown; seconds are of this run."""

    name: str
    state: str = "waiting"
    percent: int = 0
    detail: str = ""
    began: float | None = None
    seconds: float | None = None
    left: float | None = None


@dataclass(slots=True)
class Board:
    """All stages of a run; `update` takes events, the rest draws."""

    rows: dict[str, Row]
    title: str
    clock: Callable[[], float] = time.monotonic
    notice: str = ""
    _said: dict[str, float] = field(default_factory=dict)

    def update(self, event: Event) -> Row:
        """Take in one event; returns the stage's row."""
        row = self.rows[event.stage]
        row.state = "stopped" if _interrupted(event.result) else _WORDS[event.what]
        if event.what == "started":
            row.began, row.percent, row.seconds = self.clock(), 0, None
        if event.report is not None:
            row.percent, row.left = event.report.percent, event.report.seconds_left
            row.detail = progress_detail(event.report)
        if event.result is not None:
            row.percent = 100 if event.result.failure is None else row.percent
            row.seconds, row.left = event.result.seconds, None
            row.detail = result_detail(event.result)
        return row

    def announce(self, sentence: str) -> None:
        """Say it above the stages: what is written below a live board, the next drawing wipes. For signal handlers."""
        self.notice = sentence

    def table(self) -> Table:
        """The board as a Rich table."""
        title = Text("\n".join(line for line in (self.title, self.notice) if line), style="table.title")
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        table.collapse_padding = table.expand = (
            True  # so that the figures have all that the other columns leave, and no more
        )
        for name, width in (("stage", None), ("", _BAR), ("state", _STATE), ("time", _TIME)):
            table.add_column(name, width=width, no_wrap=True)
        table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
        for row in self.rows.values():
            style = _STYLES.get(row.state, "dim")
            bar = ProgressBar(total=100, completed=row.percent, width=_BAR)
            left = "" if row.left is None else f"{duration(row.left)} left, "
            detail = Text(left + " ".join(row.detail.split()))
            table.add_row(row.name, bar, Text(row.state, style=style), self._spent(row), detail)
        return table

    def line(self, event: Event) -> str | None:
        """The event as a line of a log, None where the last line is recent enough."""
        row = self.rows[event.stage]
        now = self.clock()
        if event.what == "progress" and now - self._said.get(row.name, row.began or 0.0) < _LINE_SECONDS:
            return None
        self._said[row.name] = now
        percent = f" {row.percent} %" if event.what == "progress" else ""
        told = ", ".join(part for part in (f"{row.name}: {row.state}{percent}", row.detail) if part)
        return f"{told} [{self._time(row)}]" if row.began is not None else told

    def _time(self, row: Row) -> str:
        return self._spent(row) + ("" if row.left is None else f", about {duration(row.left)} left")

    def _spent(self, row: Row) -> str:
        if row.seconds is not None:
            return duration(row.seconds)
        return "" if row.began is None else duration(self.clock() - row.began)


def board_of(plan: Plan, done: Mapping[str, StageResult], title: str) -> Board:
    """A board of the plan's stages, with those that an earlier run has done."""
    rows = {stage.name: Row(stage.name) for stage in plan.stages}
    for name, result in done.items():
        rows[name] = Row(name, "done", 100, result_detail(result.model_copy(update={"reused": True})))
    return Board(rows, title)


@contextmanager
def showing(board: Board, console: Console, *, live: bool) -> Iterator[Callable[[Event], None]]:
    """A function that takes events; on a terminal the board is redrawn, else lines are printed."""
    if not live:

        def say(event: Event) -> None:
            board.update(event)
            if (line := board.line(event)) is not None:
                console.print(line, soft_wrap=True)

        yield say
        return

    class Drawn:
        def __rich__(self) -> Table:
            return board.table()

    with Live(Drawn(), console=console, refresh_per_second=_REFRESHES_PER_SECOND):
        yield lambda event: (board.update(event), None)[1]


def json_lines(stream: TextIO) -> Callable[[Event], None]:
    """A function that writes each event as a line of JSON."""

    def write(event: Event) -> None:
        told: dict[str, Any] = {"event": event.what, "stage": event.stage}
        if event.report is not None:
            told |= {"percent": event.report.percent, "secondsLeft": event.report.seconds_left}
            told["metrics"] = dict(event.report.metrics)
        if event.result is not None:
            told["result"] = event.result.to_json_dict()
        stream.write(json.dumps(told) + "\n")
        stream.flush()

    return write


def progress_detail(report: ProgressReport) -> str:
    """The metrics that a person watches: step and loss, else whatever there is."""
    metrics = dict(report.metrics)
    step, steps = metrics.pop("current_step", None), metrics.pop("total_steps", None)
    phase = metrics.pop("phase", None)
    parts = [f"step {step} of {steps}"] if step and steps else [phase] if phase else []
    watched = [name for name in ("loss", "eval_loss", "tokens_per_second") if name in metrics]
    names = watched if parts or watched else list(metrics)[:3]
    return ", ".join(parts + [f"{name.replace('_', ' ')} {_short(metrics[name])}" for name in names])


def result_detail(result: StageResult) -> str:
    """How a stage ended: its failure, or its headline figures."""
    if result.failure is not None:
        if _interrupted(result):
            return result.failure.message
        return f"{result.failure.failure}: {result.failure.message}"
    parts = ["in the store already"] if result.reused else []
    return ", ".join(parts + list(_headlines(result.figures)))


def _interrupted(result: StageResult | None) -> bool:
    """Whether a stage ended since it was asked to: a person who pressed Ctrl-C reads of no failure."""
    failure = None if result is None else result.failure
    return failure is not None and failure.failure is FailureClass.INTERRUPTED


def _headlines(figures: Mapping[str, Any]) -> Iterable[str]:
    # A digest is for programs, which read the events.
    told = {name: value for name, value in figures.items() if name != "sha256"}
    plain = {name: value for name, value in told.items() if isinstance(value, int | float | str)}
    for name, value in list(plain.items())[:4]:
        yield f"{name} {_short(value)}"


def _short(value: object) -> str:
    try:
        number = float(str(value))
    except ValueError:
        return str(value)
    return f"{number:.4g}" if number != int(number) else f"{int(number)}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 7s, 3m 05s, 2h 10m."""
    whole = int(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{whole}s"
    if whole < 3600:  # noqa: PLR2004
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
