"""`tunesmith plan` counts the rows that lie here, and says what is left of a job and not what it was."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from support.cli import called
from support.gpu import NO_GPU
from support.manifests import manifest
from support.tiny_sources import ROWS, write_sources
from tunesmith.cli.app import app
from tunesmith.cli.notes import notes_on, notes_on_memory
from tunesmith.local.job import Wanted, open_job
from tunesmith.local.record import Record, write_record
from tunesmith.manifest import read_manifest
from tunesmith.processor import cpu_flags, native_bf16
from tunesmith_api.effective import resolve_settings
from tunesmith_api.estimates import Known, estimate
from tunesmith_api.failures import StageFailure
from tunesmith_api.schedule import Room
from tunesmith_api.spec import FineTuneJob
from tunesmith_api.stages import Stage, StageResult


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model and 60 rows."""
    return write_sources(tmp_path)


def planned(folder: Path, *options: str, source: str = "file://rows.jsonl", **training: Any) -> Result:
    """How plan ends for job `j` with these fields of spec.training."""
    spec = {"model": {"source": "file://model"}, "datasets": [{"source": source}], "training": training}
    job = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "j"}, "spec": spec}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    arguments = ["plan", str(folder / "job.yaml"), *options]
    return CliRunner().invoke(app, arguments, env={"TUNESMITH_CACHE": str(folder / "cache"), "COLUMNS": "200"})


def estimates(folder: Path, source: str = "file://rows.jsonl", **training: Any) -> dict[str, Any]:
    """What plan estimates."""
    ran = planned(folder, "--json", source=source, **training)
    assert ran.exit_code == 0, ran.exception
    return dict(json.loads(ran.stdout)["estimates"])


def test_steps_are_as_long_as_the_rows_that_lie_here(folder: Path) -> None:
    """A row of 60 bytes is a dozen tokens, in a folder too; rows of another format are taken at their longest."""
    (folder / "rows").mkdir()
    (folder / "rows" / "train.jsonl").write_text(ROWS)
    (folder / "rows.json").write_text(json.dumps([json.loads(line) for line in ROWS.splitlines()]))
    steps = {"maxSteps": 12, "effectiveBatchSize": 10, "maxSequenceLength": 256}
    expected = int(12 * 10 * len(ROWS) / 60 / 5)

    assert estimates(folder, **steps)["trainTokens"] == expected
    assert estimates(folder, "file://rows", **steps)["trainTokens"] == expected
    assert estimates(folder, "file://rows.json", **steps)["trainTokens"] == 12 * 10 * 256


def test_sources_on_this_machine_are_not_downloaded(folder: Path) -> None:
    assert estimates(folder)["downloadBytes"] == 0


def test_the_processor_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the flags that training looks at: the time is that of this machine, and not of the other sort."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(folder / "cache"))
    # Of a billion weights there is only the head, which is all that plan reads.
    head = json.dumps({"w": {"dtype": "BF16", "shape": [10**9], "data_offsets": [0, 2 * 10**9]}}).encode()
    (folder / "model" / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    planned(folder)
    local = open_job(Wanted(read_manifest(folder / "job.yaml"), folder / "out"))
    resolved = local.record.resolved
    assert resolved is not None
    values = resolve_settings("j", local.job.spec, resolved)
    types = tuple(each.value for each in local.job.spec.quantizations)
    left = tuple(stage.name for stage in local.plan.stages)
    here = native_bf16(cpu_flags())
    seconds = {bf16: estimate(resolved, values, types, Known(60, left, bf16)).seconds for bf16 in (here, not here)}

    assert estimates(folder)["coreSeconds"] == seconds[here] != seconds[not here]
    assert re.search(r"cores +about \d", planned(folder).stdout)


def test_a_gpu_is_not_passed_over_in_silence(folder: Path) -> None:
    """What the cores would take is no estimate of a training on a GPU."""
    plain, with_gpu = planned(folder), planned(folder, gpu={"memory": "8Gi"})

    assert (plain.exit_code, with_gpu.exit_code) == (0, 0), (plain.exception, with_gpu.exception)
    assert "cores" in plain.stdout
    assert "GPU that training asks for" not in plain.stdout
    assert "less on the GPU that training asks for" in with_gpu.stdout


@NO_GPU
def test_a_gpu_that_this_machine_lacks_is_said_before_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To people and programs."""
    monkeypatch.chdir(folder)
    gpu = {"memory": "8Gi"}

    assert "'tunesmith run' here will end as Unschedulable." in planned(folder, gpu=gpu).stdout
    assert len(json.loads(planned(folder, "--json", gpu=gpu).stdout)["notes"]) == 1
    assert json.loads(planned(folder, "--json").stdout)["notes"] == []


@NO_GPU
def test_a_training_that_is_done_lacks_no_gpu() -> None:
    """What is left of the job runs without one."""
    job = FineTuneJob.model_validate(manifest({"training": {"gpu": {"memory": "8Gi"}}}))

    assert len(notes_on(job)) == 1
    assert notes_on(job, trains=False) == ()


@pytest.mark.parametrize(
    ("left", "said"),
    [
        pytest.param(
            ["prepare", "train"], ("train takes about 9.0 GB of memory, and 8.0 GB are free here",), id="train"
        ),
        pytest.param(["prepare"], (), id="done already"),
    ],
)
def test_a_model_that_is_too_large_for_this_memory_is_said_before(left: list[str], said: tuple[str, ...]) -> None:
    """It is tried all the same: what is free may change, and estimates are rough."""
    notes = notes_on_memory(Room(2, 8e9, {"prepare": 2_000_000_000, "train": 9_000_000_000}), left)

    assert tuple(note.partition(":")[0] for note in notes) == said


def test_what_runs_own_folder_remembers_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --output both take ./NAME: a job whose rows are pinned there is no longer free to change them."""
    monkeypatch.chdir(folder)
    assert planned(folder).exit_code == 0
    assert not (folder / "j").exists()

    write_record(folder / "j", finished_training(folder))
    changed = planned(folder, seed=7)

    assert isinstance(changed.exception, StageFailure)
    assert "seed" in changed.exception.message
    assert planned(folder, "--output", str(folder / "other"), seed=7).exit_code == 0


def test_an_output_that_is_a_file_is_refused_as_run_does(folder: Path) -> None:
    """A plan that shows stages could not be carried out."""
    refused = planned(folder, "--output", str(folder / "rows.jsonl")).exception

    assert isinstance(refused, StageFailure)
    assert refused.message == f"the output folder {folder}/rows.jsonl is a file; it must be a folder"


def finished_training(folder: Path) -> Record:
    """The record of `j` as if its training had ended."""
    local = open_job(Wanted(read_manifest(folder / "job.yaml"), None, str(folder / "cache" / "store")))
    return local.record.with_result(local.plan, "train", StageResult(stage=Stage.TRAIN))


def test_a_person_reads_three_tables(folder: Path) -> None:
    """Stages with their keys, settings with their origins, estimates."""
    estimates(folder, maxSteps=3)
    ran = called("plan", folder / "job.yaml", TUNESMITH_CACHE=str(folder / "cache"))
    lines = [" ".join(line.split()) for line in ran.stdout.splitlines()]

    assert (ran.code, ran.stderr) == (0, "")
    assert lines[0] == f"Stages (store: {folder}/cache/store)"
    assert any(re.fullmatch("train [0-9a-f]{12} will run prepare", line) for line in lines)
    assert "training.maxSteps manifest 3" in lines
    assert "field below spec from value" in lines
    assert any(line.startswith("size of Q4_K_M ") for line in lines[lines.index("Estimates") :])
    assert any(re.fullmatch(r"memory \d+\.\d GB, for \S+", line) for line in lines)
    assert lines[-1] == f"Rows were not looked at: tunesmith validate {folder}/job.yaml"


def test_without_a_terminal_nothing_is_folded(folder: Path) -> None:
    """A file has room for the longest line, which makes the others no longer."""
    prompt = "Be brief. " * 60
    planned(folder, systemPrompt={"mode": "Text", "text": prompt})
    ran = called("plan", folder / "job.yaml", TUNESMITH_CACHE=str(folder / "cache"), COLUMNS="40")

    assert prompt.strip() in ran.stdout
    assert "gates.maxLogPerplexityIncrease  default " in ran.stdout
    assert all(len(line) < 200 for line in ran.stdout.splitlines() if prompt.strip() not in line)


def test_a_terminal_folds_no_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of stages and of fields: they are there to be copied."""
    planned(folder)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    ran = called("plan", folder / "job.yaml", TUNESMITH_CACHE=str(folder / "cache"), COLUMNS="80")
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in ran.stdout.splitlines()]

    assert any(line.startswith("gates.maxLogPerplexityIncrease ") for line in lines)
    assert any(line.startswith("quantize-Q4_K_M ") for line in lines)
    assert all(len(line) <= 80 for line in lines[1:-1])
