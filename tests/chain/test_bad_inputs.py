"""What a user can get wrong is told by its class, place and cure, with the exit code that it should have."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from support.models import smollm2
from support.runs import manifest, run_job, tunesmith


def linked_model(target: Path) -> Path:
    """SmolLM2's files under another folder, to be changed one by one."""
    target.mkdir()
    for path in smollm2().iterdir():
        (target / path.name).symlink_to(path)
    return target


def replaced(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        pytest.param({"quantizations": ["Q4_KM"]}, 2, "Q4_K_M", id="unknown quantization"),
        pytest.param({"quantisations": ["Q4_K_M"]}, 2, "quantizations", id="misspelt field"),
        pytest.param({"model": {"source": "file:///nowhere/model"}}, 1, "SourceUnavailable", id="no such model"),
        pytest.param({"datasets": [{"source": "file:///nowhere.jsonl"}]}, 1, "SourceUnavailable", id="no such dataset"),
    ],
)
def test_a_wrong_manifest_is_refused_before_anything_runs(
    tmp_path: Path, change: dict[str, Any], code: int, said: str
) -> None:
    """Exit code 2 for what is wrong in itself, 1 for what is not there."""
    job = manifest()
    job["spec"] |= change
    ran = run_job(tmp_path, job)

    assert ran.code == code
    assert said in ran.stderr
    assert ran.started() == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param("", "DatasetInvalid", id="empty"),
        pytest.param('{"messages": [\n', "DatasetInvalid", id="broken JSON"),
        pytest.param('{"a": 1, "b": 2}\n' * 50, "a, b", id="no known columns"),
        pytest.param('{"messages": [{"role": "robot", "content": "x"}]}\n' * 50, "no known role", id="unknown role"),
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
    assert "ModelInvalid" in ran.stderr
    assert ran.started() == ["prepare"]


def test_missing_tools_are_told_before_the_first_stage(tmp_path: Path) -> None:
    """A folder that was named for the tools and lacks them is an error with its cure, not a reason to build."""
    ran = run_job(tmp_path, manifest(), TUNESMITH_LLAMA_CPP=str(tmp_path))

    assert ran.code == 1
    assert "ToolsMissing" in ran.stderr
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
    assert "StoreUnavailable" in ran.stdout + ran.stderr
    assert "the-secret-key" not in ran.stdout + ran.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_told_and_leaves_nothing_half(tmp_path: Path) -> None:
    """The store's disk is too small for the model: DiskFull or StoreFull, and no artifact that is not whole."""
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(small)], check=False)
    if mounted.returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        ran = run_job(tmp_path / "run", manifest(), STORE=str(small / "store"))
        assert ran.code == 1
        assert "Full" in ran.stderr
        assert not list((small / "store").rglob("manifest.json"))
    finally:
        subprocess.run(["umount", str(small)], check=True)
