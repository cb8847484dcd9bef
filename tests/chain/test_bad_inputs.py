"""What a user can get wrong is told by its class, place and cure, with the exit code that it should have."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.models import cut, smollm2
from support.runs import ROWS, Ran, Running, manifest, record, run_job, tunesmith
from support.small_disk import SmallDisk, mounted


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two layers of SmolLM2."""
    return cut(smollm2(), 2, tmp_path_factory.mktemp("model") / "SmolLM2-cut")


def linked_model(target: Path) -> Path:
    """SmolLM2's files under another folder, to be changed one by one."""
    target.mkdir()
    for path in smollm2().iterdir():
        (target / path.name).symlink_to(path)
    return target


def replaced(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def told(ran: Ran, failure: str) -> str:
    """What a command said of a failure of this class, in its first line; the second is the hint, and must be there."""
    lines = (ran.stdout + ran.stderr).splitlines()
    place = next((at for at, line in enumerate(lines) if line.startswith(failure)), None)
    assert place is not None, f"no {failure} in {lines}"
    assert lines[place + 1].strip(), f"no hint after {lines[place]}"
    assert "Traceback" not in ran.stdout + ran.stderr
    return lines[place]


NO_MODEL, NO_ROWS = {"source": "file:///nowhere/model"}, {"source": "file:///nowhere.jsonl"}


@pytest.mark.parametrize(
    ("change", "code", "failure", "said"),
    [
        pytest.param({"quantizations": ["Q4_KM"]}, 2, "SpecInvalid", "mean Q4_K_M?", id="unknown quantization"),
        pytest.param({"quantisations": ["Q8_0"]}, 2, "SpecInvalid", "mean quantizations?", id="misspelt field"),
        pytest.param({"model": NO_MODEL}, 1, "SourceAbsent", "/nowhere/model", id="no such model"),
        pytest.param({"datasets": [NO_ROWS]}, 1, "SourceAbsent", "/nowhere.jsonl", id="no such dataset"),
    ],
)
def test_a_wrong_manifest_is_refused_before_anything_runs(
    tmp_path: Path, change: dict[str, Any], code: int, failure: str, said: str
) -> None:
    """Exit code 2 for what is wrong in itself, 1 for what is not there."""
    ran = run_job(tmp_path, manifest(**change))

    assert ran.code == code
    assert said in told(ran, failure)
    assert ran.started() == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param("", "DatasetInvalid", id="empty"),
        pytest.param('{"messages": [\n', "DatasetInvalid", id="broken JSON"),
        pytest.param('{"a": 1, "b": 2}\n' * 50, "'a', 'b'", id="no known columns"),
        pytest.param('{"messages": [{"role": "robot", "content": "x"}]}\n' * 50, "the role 'robot'", id="unknown role"),
    ],
)
def test_bad_rows_are_found_by_validate(tmp_path: Path, rows: str, said: str) -> None:
    """`validate` says what prepare would, with the place; exit code 2."""
    (tmp_path / "rows.jsonl").write_text(rows)
    job = manifest(datasets=[{"source": "file://rows.jsonl"}])
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    ran = tunesmith("validate", tmp_path / "job.yaml")

    assert ran.code == 2
    assert said in ran.stderr + ran.stdout


def test_a_model_without_a_chat_template_is_refused_for_chats(tmp_path: Path) -> None:
    """ModelInvalid from prepare, before training (P42)."""
    model = linked_model(tmp_path / "model")
    config = json.loads((model / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    replaced(model / "tokenizer_config.json", json.dumps(config))
    for extra in model.glob("chat_template*"):
        extra.unlink()
    ran = run_job(tmp_path / "run", manifest(model={"source": f"file://{model}"}))

    assert ran.code == 1
    assert "chat template" in told(ran, "ModelInvalid in prepare")
    assert ran.started() == ["prepare"]


def test_missing_tools_are_told_before_the_first_stage(tmp_path: Path) -> None:
    """A folder that was named for the tools and lacks them is an error with its cure, not a reason to build."""
    ran = run_job(tmp_path, manifest(), TUNESMITH_LLAMA_CPP=str(tmp_path))

    assert ran.code == 1
    assert str(tmp_path) in told(ran, "ToolsMissing")
    assert ran.started() == []


def test_a_store_that_is_away_is_told(tmp_path: Path) -> None:
    """StoreUnavailable with the store's address and none of its keys."""
    secret = tmp_path / "secrets" / "minio"
    secret.mkdir(parents=True)
    (secret / "accessKey").write_text("the-access-key")
    (secret / "secretKey").write_text("the-secret-key")
    store = {"uri": "s3://bucket/prefix", "endpoint": "http://127.0.0.1:9", "secretRef": {"name": "minio"}}
    (tmp_path / "job.yaml").write_text(json.dumps(manifest(store=store)))
    ran = tunesmith(
        "run", tmp_path / "job.yaml", "--output", tmp_path / "out", TUNESMITH_SECRETS=str(tmp_path / "secrets")
    )

    assert ran.code == 1
    assert "127.0.0.1:9" in told(ran, "StoreUnavailable")
    assert "the-secret-key" not in ran.stdout + ran.stderr


@pytest.mark.parametrize("keys", [(), ("accessKey",)], ids=["absent", "without a token"])
def test_a_token_for_the_push_is_missed_before_the_training(tmp_path: Path, keys: tuple[str, ...]) -> None:
    """It is needed at the very end."""
    for key in keys:
        (tmp_path / "secrets" / "writer").mkdir(parents=True)
        (tmp_path / "secrets" / "writer" / key).write_text("something")
    hub = {"repo": "org/name", "secretRef": {"name": "writer"}}
    ran = run_job(tmp_path, manifest(publish={"hub": hub}), TUNESMITH_SECRETS=str(tmp_path / "secrets"))

    assert ran.code == 1
    assert "'writer'" in told(ran, "SecretMissing")
    assert ran.started() == []


def test_a_manifest_that_is_wrong_is_told_with_its_line_and_leaves_no_trace(tmp_path: Path) -> None:
    """File, field, line and what to do; not even the output folder is made."""
    ran = run_job(tmp_path, manifest(quantizations=["Q4_KM"]))
    lines = (tmp_path / "job.yaml").read_text().splitlines()
    place = f"{tmp_path / 'job.yaml'}: spec.quantizations[0] (line {lines.index('  - Q4_KM') + 1}): "

    assert ran.code == 2
    assert told(ran, "SpecInvalid").startswith(f"SpecInvalid: {place}'Q4_KM' is not one of the allowed words")
    assert "Correct the named field of the manifest." in ran.stderr.splitlines()
    assert not (tmp_path / "out").exists()


def test_rows_and_manifest_can_be_corrected_as_the_hint_says(tmp_path: Path, small_model: Path) -> None:
    """While nothing was made, the same output folder takes the corrected job (DatasetInvalid names the cure)."""
    good = ROWS.read_text().splitlines()
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join([*good, '{"messages": [']))
    job = manifest(model={"source": f"file://{small_model}"}, datasets=[{"source": f"file://{rows}"}])
    refused = run_job(tmp_path, job)
    assert refused.code == 1
    assert "DatasetInvalid" in refused.stderr
    assert "onInvalidRows" in refused.stderr
    before = record(tmp_path)["uid"]

    rows.write_text("\n".join(good))
    job["spec"]["training"]["learningRate"] = 0.002
    run = Running(tmp_path, job, tmp_path / "store")
    run.until(lambda event: event.get("stage") == "prepare" and event["event"] == "done")
    run.kill_all()
    assert record(tmp_path)["uid"] != before

    job["spec"]["training"]["learningRate"] = 0.003
    kept = run_job(tmp_path, job)
    assert kept.code == 2
    assert "learningRate" in kept.stderr
    assert "another --output" in kept.stderr


def test_fields_for_a_cluster_are_told_once(tmp_path: Path) -> None:
    """A person who sets them here would wait for something that does not come."""
    ran = run_job(tmp_path, manifest(priority=5, backoffLimit=2), TUNESMITH_LLAMA_CPP=str(tmp_path))

    assert ran.stderr.count("Only in a cluster, and without effect here: spec.priority, spec.backoffLimit.") == 1


def test_a_folder_with_files_of_others_is_refused(tmp_path: Path) -> None:
    """Before anything runs: `--output .` in a project must not cost it its README."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("my project")
    ran = run_job(tmp_path, manifest())

    assert ran.code == 2
    assert "README.md" in ran.stderr
    assert "another --output" in ran.stderr
    assert ran.started() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of its own, of 64 MB until it is resized."""
    with mounted(tmp_path / "small", 64 << 20) as disk:
        yield disk


def gigabytes(said: str) -> float:
    """How much the job needs, as the message tells."""
    found = re.search(r"needs about ([0-9.]+) GB", said)
    assert found is not None, said
    return float(found[1])


def fill(disk: Path, leave: int) -> Path:
    """A file that takes all of a file system but `leave` bytes."""
    filler = disk / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):  # a run may take what we were about to
        while (left := shutil.disk_usage(disk).free - leave) > 0:
            os.posix_fallocate(file.fileno(), file.seek(0, 2), min(left, 1 << 24))
    return filler


def test_a_disk_that_is_too_small_or_too_full_is_told_before_the_first_stage(
    tmp_path: Path, small_model: Path, small_disk: SmallDisk
) -> None:
    """DoesNotFit where it could never hold the job, DiskFull where it could; figures and cure; nothing was started."""
    job = manifest(model={"source": f"file://{small_model}"})
    too_small = run_job(tmp_path, job, STORE=str(small_disk.folder / "store"))
    assert too_small.code == 1
    assert "DoesNotFit" in too_small.stderr
    assert "on a disk of 0.07 GB" in too_small.stderr
    assert "--store" in too_small.stderr

    needed = gigabytes(too_small.stderr)
    small_disk.resize(int(needed * 1.1e9))
    fill(small_disk.folder, leave=int(needed * 0.5e9))
    too_full = run_job(tmp_path, job, STORE=str(small_disk.folder / "store"))
    assert too_full.code == 1
    assert "DiskFull" in too_full.stderr
    assert f"where {needed * 0.5:.2f} GB are free" in too_full.stderr
    assert "Free disk space" in too_full.stderr
    assert [*too_small.started(), *too_full.started()] == []


def test_a_disk_that_fills_up_is_told_and_leaves_nothing_half(
    tmp_path: Path, small_model: Path, small_disk: SmallDisk
) -> None:
    """Somebody else takes the space while the job runs: StoreFull, no artifact that is not whole; then it goes on."""
    small_disk.resize(3 << 30)
    job, store = manifest(model={"source": f"file://{small_model}"}), small_disk.folder / "store"
    run = Running(tmp_path, job, store)
    run.until(lambda event: event["event"] == "started")
    # At once: writing a file of that size would take longer than the stage.
    small_disk.resize(shutil.disk_usage(small_disk.folder).used)
    failed = run.until(lambda event: event["event"] == "failed")
    assert run.end(timeout=300) == 1
    assert failed["result"]["failure"]["class"] == "StoreFull"
    assert "tunesmith gc" in failed["result"]["failure"]["hint"]
    assert not list(store.rglob("manifest.json"))

    small_disk.resize(3 << 30)
    again = Running(tmp_path, job, store)
    again.until(lambda event: event.get("stage") == "prepare" and event["event"] == "done")
    again.kill_all()
