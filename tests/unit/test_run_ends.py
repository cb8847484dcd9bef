"""What `tunesmith run` says at the end and when it is asked to stop, and the exit code."""

import io
import json
import os
import signal
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from support.builders import a_plan
from tunesmith.cli import run as command
from tunesmith.cli.report import failed_gates
from tunesmith.cli.terminal import terminal
from tunesmith.local.job import LocalJob
from tunesmith.local.record import Record, read_record
from tunesmith.local.runner import Run, Site
from tunesmith_api.stages import JobReference, StageResult, StoreLocation

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


def a_run(output: Path, **published: str) -> tuple[Run, LocalJob]:
    """A run whose stages have each taken 100 seconds; `published` are the figures of publish."""
    location = StoreLocation(uri="file:///store", namespace="default")
    site = Site(JobReference(name="bot", namespace="default", uid="u"), output, output, location, None, None, 1, dict)  # type: ignore[arg-type]
    record = Record(manifest={}, store="file:///store", namespace="default")
    for stage in PLAN.stages:
        record = record.with_result(
            PLAN, stage.name, StageResult(stage=stage.stage, seconds=100.0, figures=dict(published))
        )
    return Run(PLAN, record, site, print), LocalJob(None, {}, record, PLAN, site)  # type: ignore[arg-type]


def ended(output: Path, report: dict[str, Any], **published: str) -> tuple[int, str]:
    """The exit code and what was said of a run that began 167 seconds ago."""
    run, local = a_run(output, **published)
    (output / "report.json").write_text(json.dumps(report))
    stream = io.StringIO()
    with redirect_stdout(stream):
        code = command._conclude(run, local, terminal(), None, time.monotonic() - 167)
    return code, stream.getvalue()


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
    run, _ = a_run(tmp_path)
    run._running[running] = None  # type: ignore[assignment]
    with command._stopping(run):
        os.kill(os.getpid(), signal.SIGINT)

    assert capfd.readouterr().err.strip().startswith(said)
    assert run.stops == 1
