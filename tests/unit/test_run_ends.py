"""What `tunesmith run` says at the end and when it is asked to stop, and the exit code."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from support.builders import a_plan
from support.cli import called
from tunesmith.cli import run as command
from tunesmith.cli.ending import Outcome, outcome_of_error
from tunesmith.cli.report import failed_gates
from tunesmith.cli.terminal import terminal
from tunesmith.local.record import Record, read_record, write_record
from tunesmith.local.runner import Run, Site
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import JobReference, Stage, StageResult, StoreLocation, failure_of

PLAN = a_plan()
FAILED = {"name": "maxPerplexityIncrease", "verdict": "Failed", "value": 2.0781, "threshold": 0.5}
INFINITE = {"name": "maxLossIncrease", "verdict": "Failed", "value": None, "threshold": 0.1}
PASSED = {"name": "maxScoreDrop", "verdict": "Passed", "value": 0.0, "threshold": 0.1}


def a_file(type_: str, *gates: dict[str, Any], published: bool = True) -> dict[str, Any]:
    verdict = "Failed" if any(gate["verdict"] == "Failed" for gate in gates) else "Passed"
    facts = {"name": f"bot-{type_}.gguf", "type": type_, "bytes": 10**6, "figures": {}}
    return facts | {"gates": gates, "verdict": verdict, "published": published}


REPORT = {
    "job": "bot",
    "verdict": "Failed",
    "gates": [{"name": "minScoreGain", "verdict": "Failed", "value": 0.01, "threshold": 0.05}],
    "files": [a_file("Q8_0", PASSED), a_file("Q4_0", FAILED, PASSED, INFINITE, published=False)],
}


def a_run(output: Path, **published: str) -> Run:
    """A run whose stages have each taken 100 seconds; `published` are the figures of publish."""
    location = StoreLocation(uri="file:///store", namespace="default")
    site = Site(JobReference(name="bot", namespace="default", uid="u"), output, output, location, None, None, 1, dict)  # type: ignore[arg-type]
    record = Record(manifest={"metadata": {"name": "bot"}}, store="file:///store", namespace="default")
    for stage in PLAN.stages:
        record = record.with_result(
            PLAN, stage.name, StageResult(stage=stage.stage, seconds=100.0, figures=dict(published))
        )
    return Run(PLAN, record, site, print)


def ended(output: Path, report: dict[str, Any], **published: str) -> tuple[int, str]:
    """The exit code and what was said of a run that began 167 seconds ago."""
    (output / "report.json").write_text(json.dumps(report))
    outcome, said = concluded(a_run(output, **published))
    return outcome.code, said


def concluded(run: Run) -> tuple[Outcome, str]:
    """How it ended and what was said of it."""
    stream = io.StringIO()
    with redirect_stdout(stream):
        outcome = command._conclude(run, (), terminal(), time.monotonic() - 167)
    return outcome, stream.getvalue()


def test_what_failed_its_gates_is_told_with_value_and_threshold() -> None:
    """Each file, and the tuned model; a figure that was infinite has no value."""
    assert failed_gates(REPORT) == [
        "Q4_0 is withheld: maxPerplexityIncrease 2.078 against 0.5, maxLossIncrease no number against 0.1",
        "the tuned model failed: minScoreGain 0.010 against 0.05",
    ]


def test_a_failed_gate_ends_with_its_class_and_what_helps(tmp_path: Path) -> None:
    """After the figures; the record remembers the same."""
    code, said = ended(tmp_path, REPORT, verdict="Failed", onFailure="Withhold")

    assert code == 1
    assert said.splitlines()[-4:-2] == failed_gates(REPORT)
    assert "GateFailed: " in said.splitlines()[-2]
    assert said.splitlines()[-1].startswith("Choose a larger quantization")
    record = read_record(tmp_path)
    assert record is not None
    assert record.failure is not None
    assert (record.phase, record.failure.failure) == ("Failed", "GateFailed")
    assert "2.078 against 0.5" in record.failure.message


def test_what_is_published_all_the_same_is_no_failure_of_the_run(tmp_path: Path) -> None:
    """The reasons are told."""
    report = REPORT | {"files": [a_file("Q4_0", FAILED)]}
    code, said = ended(tmp_path, report, verdict="Failed", onFailure="Publish")

    assert code == 0
    assert "Q4_0 failed: maxPerplexityIncrease 2.078 against 0.5" in said
    assert "GateFailed" not in said


def test_the_time_is_that_of_this_run_and_not_of_its_stages(tmp_path: Path) -> None:
    """Some were made by an earlier run, others side by side."""
    _, said = ended(tmp_path, REPORT | {"files": [a_file("Q8_0", PASSED)], "gates": []}, verdict="Passed")

    assert "this run took 2m 4" in said


def test_a_gate_of_the_job_alone_withholds_nothing(tmp_path: Path) -> None:
    """All files are published; another quantization would not help."""
    code, said = ended(tmp_path, REPORT | {"files": [a_file("Q8_0", PASSED)]}, verdict="Failed", onFailure="Withhold")

    assert code == 1
    assert "GateFailed: every file is published, but the tuned model failed a gate of its own" in said
    assert "not published" not in said
    assert "quantization" not in said
    record = read_record(tmp_path)
    assert record is not None
    assert record.failure is not None
    assert record.failure.hint.startswith("Train longer")


def test_show_says_how_far_a_run_without_a_report_came(tmp_path: Path) -> None:
    """Its failure, where the logs are, and its exit code; a program reads the same."""
    run = a_run(tmp_path)
    run.failure = failure_of(StageFailure(FailureClass.OUT_OF_MEMORY, "too large", "A smaller batch."), Stage.TRAIN)
    concluded(run)
    shown = called("show", tmp_path)

    assert shown.code == 1
    first, second, *rest = shown.stdout.splitlines()
    assert first == f"bot: Failed; done: {', '.join(run.record.stages)}"
    assert second == "OutOfMemory in train: too large"
    assert rest == ["A smaller batch.", f"Logs: {tmp_path}/.tunesmith/logs"]
    told = json.loads(called("show", tmp_path, "--json").stdout)
    assert (told["phase"], told["failure"]["stage"], told["done"]) == ("Failed", "train", list(run.record.stages))


def test_show_says_that_a_run_goes_on(tmp_path: Path) -> None:
    """Nothing has failed yet; a folder that no run has used is still refused."""
    begun = a_run(tmp_path).record.running()
    write_record(tmp_path, begun)

    assert called("show", tmp_path).stdout.startswith("bot: Running; done: ")
    assert called("show", tmp_path / "nowhere").code == 2


def test_a_run_that_was_stopped_is_recorded_as_interrupted(tmp_path: Path) -> None:
    """With what the stage said of itself, or, where it was killed, without; the record no longer says Running."""
    run = a_run(tmp_path)
    run.record = run.record.damaged("train")
    run.stops = 1
    saved = StageFailure(FailureClass.INTERRUPTED, "step 12 is saved")
    for failure, message in ((saved, saved.message), (StageFailure(FailureClass.INTERNAL, "killed"), "was stopped")):
        run.failure = failure_of(failure, Stage.TRAIN)
        outcome, said = concluded(run)

        assert (outcome.code, said) == (130, "Stopped. The same command goes on from here.\n")
        record = read_record(tmp_path)
        assert record is not None
        assert record.failure is not None
        assert (record.phase, record.failure.failure) == ("Failed", "Interrupted")
        assert message in record.failure.message
        assert outcome.to_event()["failure"] == record.failure.to_json_dict()


def test_a_stage_that_failed_is_told_with_its_logs(tmp_path: Path) -> None:
    """And recorded."""
    run = a_run(tmp_path)
    run.failure = failure_of(StageFailure(FailureClass.DEADLINE, "too late"))
    outcome, said = concluded(run)

    assert outcome.to_event()["failure"]["class"] == "Deadline"
    assert outcome.code == 1
    assert said.splitlines()[0] == "Deadline: too late"
    assert f"{tmp_path}/.tunesmith/logs" in said
    record = read_record(tmp_path)
    assert record is not None
    assert record.failure is not None
    assert (record.phase, record.failure.to_json_dict()) == ("Failed", outcome.to_event()["failure"])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StageFailure(FailureClass.STORE_UNAVAILABLE, "gone"), ("StoreUnavailable", "gone", 1)),
        (KeyboardInterrupt(), ("Interrupted", "the run was stopped", 130)),
        (ZeroDivisionError("a defect"), ("Internal", "ZeroDivisionError: a defect", 1)),
    ],
)
def test_whatever_is_raised_has_a_class_and_is_recorded(
    tmp_path: Path, error: BaseException, expected: tuple[str, str, int]
) -> None:
    """The record that a run has begun does not say Running for ever."""
    begun = a_run(tmp_path).record
    with pytest.raises(type(error)), command._recording_errors(tmp_path, begun):
        raise error

    outcome = outcome_of_error(error)
    assert outcome.failure is not None
    name, message, code = expected
    assert (outcome.failure.failure, outcome.code) == (name, code)
    assert outcome.failure.message.startswith(message)
    record = read_record(tmp_path)
    assert record is not None
    assert (record.phase, record.failure) == ("Failed", outcome.failure)


def test_an_output_folder_of_any_name_is_named_as_it_is(tmp_path: Path) -> None:
    """Brackets are no markup."""
    output = tmp_path / "[x] [b]"
    output.mkdir()

    assert f"Files: {output}/ " in ended(output, REPORT, verdict="Failed", onFailure="Publish")[1]


def test_without_a_file_there_is_nothing_to_chat_with(tmp_path: Path) -> None:
    """All were withheld."""
    report = REPORT | {"files": [a_file("Q4_0", FAILED, published=False)]}

    assert "tunesmith chat" not in ended(tmp_path, report, verdict="Failed", onFailure="Withhold")[1]


@pytest.mark.parametrize(
    ("running", "said"), [("train", "Saving at the end of the running step; "), ("convert", "Stopping; ")]
)
def test_only_training_saves_when_it_is_asked_to_stop(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], running: str, said: str
) -> None:
    """Other stages begin anew."""
    run = a_run(tmp_path)
    run._running[running] = None  # type: ignore[assignment]
    with command._stopping(run, command._say_at_once):
        os.kill(os.getpid(), signal.SIGINT)

    assert capfd.readouterr().err.strip().startswith(said)
    assert run.stops == 1


OUTLASTED = """
import signal, time
from pathlib import Path
from tunesmith.local.record import Record
from tunesmith.local.runner import Run, Site
from tunesmith_api.plan import Plan
from tunesmith_api.stages import JobReference, StoreLocation

def slow(number, frame):
    busy = time.monotonic() + 0.2
    while time.monotonic() < busy:
        pass

location = StoreLocation(uri="file:///store", namespace="default")
site = Site(JobReference(name="bot", namespace="default", uid="u"), Path(), Path(), location, None, None, 1, dict)
run = Run(Plan(stages=()), Record(manifest={"metadata": {"name": "bot"}}, store="", namespace="default"), site, print)
signal.signal(signal.SIGALRM, slow)
signal.setitimer(signal.ITIMER_REAL, 0.02)
run._hear()
"""


def test_a_signal_whose_handler_outlasts_the_wait_for_reports_does_not_hang_the_run() -> None:
    """On a busy machine Ctrl-C's does: queue.SimpleQueue.get then waits for ever, before Python 3.13."""
    done = subprocess.run([sys.executable, "-c", OUTLASTED], capture_output=True, text=True, check=False, timeout=300)

    assert done.returncode == 0, done.stderr
