"""What a person reads while a job runs, on a terminal of 80 columns and in a log."""

import io
import json
import os
import re
import threading
from contextlib import redirect_stdout
from typing import TextIO

import pytest
from rich.console import Console

from support.builders import a_plan, a_spec
from support.terminals import read_all
from tunesmith.cli.terminal import terminal
from tunesmith.cli.view import Board, board_of, json_lines, showing
from tunesmith.local.runner import Event
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.progress import ProgressReport
from tunesmith_api.stages import StageResult, failure_of

PLAN = a_plan(a_spec(quantizations=["Q4_K_M", "IQ3_XXS"]))


class Clock:
    """Stands still until a test moves it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def board() -> Board:
    """All stages waiting, at second 100."""
    found = board_of(PLAN, {}, "bot -> out")
    found.clock = Clock()
    return found


def shown(board: Board, width: int = 80) -> list[str]:
    """The board's lines on a terminal, without those of title and heading."""
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=True, color_system=None).print(board.table())
    return stream.getvalue().splitlines()[2:]


def reported(stage: str, left: float | None = None) -> Event:
    metrics = {"current_step": "120", "total_steps": "400", "loss": "1.23456", "tokens_per_second": "1234.5"}
    return Event("progress", stage, report=ProgressReport(stage, 30, left, metrics))


def ended(stage: str, failure: FailureClass, message: str) -> Event:
    result = StageResult(stage="train", failure=failure_of(StageFailure(failure, message)), seconds=10.0)
    return Event("failed", stage, result=result)


def test_each_stage_has_one_line_of_80_columns(board: Board) -> None:
    """Figures and failures are shortened; stage, state and time never."""
    figures = dict.fromkeys(("rowsTrained", "tokensTrained", "perplexity", "somethingElse"), 1.23456)
    for stage in PLAN.stages:
        board.update(Event("started", stage.name))
        board.update(Event("done", stage.name, result=StageResult(stage=stage.stage, figures=figures, seconds=3599)))
    board.update(Event("started", "train"))
    board.update(reported("train", 3599))
    board.update(ended("convert", FailureClass.INTERNAL, "a long\nmessage with [brackets] " * 9))
    lines = shown(board)

    assert len(lines) == len(PLAN.stages)
    assert all(len(line) <= 80 for line in lines)
    for line, stage in zip(lines, PLAN.stages, strict=True):
        assert line.startswith(f"{stage.name} ")
        assert "\u2026" in line
    quantized = next(line for line in lines if line.startswith("quantize-IQ3_XXS"))
    assert "done" in quantized
    assert "59m 59s rowsTrained 1.235, tok" in quantized
    assert any(" running  0s      59m 59s left, step 120 of 400" in line for line in lines)


def test_a_log_says_how_long_it_has_taken_and_about_how_long_it_will(board: Board) -> None:
    """Not as a range."""
    board.update(Event("started", "train"))
    board.clock.now += 10  # type: ignore[attr-defined]
    event = reported("train", 114)
    board.update(event)
    line = board.line(event)

    assert line is not None
    assert line.startswith("train: running 30 %, step 120 of 400, loss 1.235")
    assert line.endswith("[10s, about 1m 54s left]")


def test_a_stage_that_was_asked_to_stop_has_stopped_and_not_failed(board: Board) -> None:
    """Ctrl-C is no failure; anything else is."""
    board.update(Event("started", "train"))
    event = ended("train", FailureClass.INTERRUPTED, "training was interrupted, step 12 is saved")
    board.update(event)

    assert board.line(event) == "train: stopped, training was interrupted, step 12 is saved [10s]"
    assert any(" stopped  10s " in line for line in shown(board))
    board.update(ended("train", FailureClass.OUT_OF_MEMORY, "too little"))
    assert any(" failed   10s     OutOfMemory: too little" in line for line in shown(board))


def test_what_is_announced_stands_above_the_stages_in_every_drawing(board: Board) -> None:
    """A line that is written below a live board is wiped by the next drawing before anyone has read it."""
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    with showing(board, console, live=True):
        board.announce("Stopping; press Ctrl-C again to end at once.")

    last = stream.getvalue().split("bot -> out")[-1].splitlines()
    assert last[1].strip() == "Stopping; press Ctrl-C again to end at once."


def a_short_run() -> list[Event]:
    """What a runner tells of a stage that reports once and ends."""
    figures = {"rowsTrained": 52}
    done = Event("done", "prepare", result=StageResult(stage="prepare", figures=figures, seconds=3.0))
    return [Event("started", "prepare"), reported("prepare", 114), done, Event("started", "train")]


def seen(terminal_file: TextIO, board: Board) -> None:
    """Show a short run on a file, as `run` does."""
    with redirect_stdout(terminal_file):
        console = terminal()
        with showing(board, console, live=console.is_terminal) as show:
            for event in a_short_run():
                show(event)


def test_on_a_terminal_one_table_is_drawn_again_and_again(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """All stages are on it from the beginning, those that wait too, and the last drawing stays."""
    for name, value in {"TERM": "xterm", "COLUMNS": "80", "LINES": "40"}.items():
        monkeypatch.setenv(name, value)
    ours, theirs = os.openpty()
    written: list[bytes] = []
    reading = threading.Thread(target=read_all, args=(ours, written))
    reading.start()
    with os.fdopen(theirs, "w") as file:
        seen(file, board)
    reading.join()
    os.close(ours)
    text = b"".join(written).decode()
    drawings = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "").split("bot -> out")

    assert "\x1b[1A" in text  # up one line: drawn over the last drawing
    assert len(drawings) > 2
    for stage in PLAN.stages:
        assert f"\n{stage.name} " in drawings[1]
        assert f"\n{stage.name} " in drawings[-1]
    assert re.search(r"prepare .* done +3s +rowsTrained 52", drawings[-1])
    assert re.search(r"train .* running +0s", drawings[-1])


def test_elsewhere_there_is_a_line_for_what_happens(board: Board) -> None:
    """A report so soon after the start is not worth one."""
    stream = io.StringIO()
    seen(stream, board)

    assert stream.getvalue().splitlines() == [
        "prepare: running [0s]",
        "prepare: done, rowsTrained 52 [3s]",
        "train: running [0s]",
    ]


def test_a_program_reads_a_line_of_json_for_each_event() -> None:
    """Under the names of docs/json.md."""
    stream = io.StringIO()
    write = json_lines(stream)
    for event in [*a_short_run(), ended("train", FailureClass.OUT_OF_MEMORY, "too little")]:
        write(event)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]

    assert [(line["event"], line["stage"]) for line in lines] == [
        ("started", "prepare"),
        ("progress", "prepare"),
        ("done", "prepare"),
        ("started", "train"),
        ("failed", "train"),
    ]
    assert (lines[1]["percent"], lines[1]["secondsLeft"], lines[1]["metrics"]["current_step"]) == (30, 114, "120")
    assert lines[2]["result"]["figures"] == {"rowsTrained": 52}
    assert lines[4]["result"]["failure"]["class"] == "OutOfMemory"
