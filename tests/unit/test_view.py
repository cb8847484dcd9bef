"""What a person reads while a job runs, on a terminal of 80 columns and in a log."""

import io

import pytest
from rich.console import Console

from support.builders import a_plan, a_spec
from tunesmith.cli.view import Board, board_of
from tunesmith.local.listener import ProgressReport
from tunesmith.local.runner import Event
from tunesmith_api.failures import FailureClass, StageFailure
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
