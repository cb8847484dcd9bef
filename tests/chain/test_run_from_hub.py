"""A whole run whose model and rows are on a hub: mirrored once, pinned for good, gated ones only with their token."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.hub import Hub, serving_hub
from support.models import cut, smollm2
from support.runs import ROWS, Ran, manifest, run_job, tunesmith

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with a gated model (SmolLM2's first two layers) and a gated dataset."""
    model = cut(smollm2(), 2, tmp_path_factory.mktemp("model") / "cut")
    files = {path.name: path.read_bytes() for path in model.iterdir()} | {"onnx/model.onnx": b"not for us"}
    with serving_hub() as served:
        served.create("org/cut", files, gated=True, card={"license": "apache-2.0"})
        served.create("org/rows", {"street.jsonl": ROWS.read_bytes()}, kind="dataset", gated=True)
        yield served


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


def surroundings(hub: Hub, work: Path) -> dict[str, str]:
    """The environment of every command here."""
    hubs = {"HF_ENDPOINT": hub.url, "HF_HOME": str(work / "hf"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return hubs | {"TUNESMITH_SECRETS": str(work / "secrets")}


def run(hub: Hub, work: Path, name: str, *, named: str | None) -> Ran:
    """Run the job called `name` in its folder with the Secret `named` in its manifest."""
    secret: dict[str, Any] = {} if named is None else {"secretRef": {"name": named}}
    training = {"maxSteps": 2, "effectiveBatchSize": 4, "maxSequenceLength": 128, "learningRate": 1e-4}
    job = manifest(
        model={"source": "hf://org/cut", **secret},
        datasets=[{"source": "hf://org/rows", **secret}],
        training=training,
        evaluation={"percent": 14, "prompts": 2, "metric": "Labels", "chunks": 2},
        quantizations=["Q8_0"],
        # Two layers say nothing that a gate could measure.
        gates={"onFailure": "Publish"},
    )
    job["metadata"]["name"] = name
    folder = work / "secrets" / "hub"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "token").write_text(hub.token + "\n")
    # Relative to where the command is called: the stages, which work in other folders, use the same one.
    return run_job(work / name, job, **surroundings(hub, work), STORE=os.path.relpath(work / "store"))


def downloads(hub: Hub, kind: str) -> int:
    """How often a file whose path has these words was asked for with its content."""
    return len([path for method, path in hub.requests if method == "GET" and "/resolve/" in path and kind in path])


@pytest.fixture(scope="module")
def first(hub: Hub, work: Path) -> Ran:
    """The first whole run, with the token."""
    return run(hub, work, "first", named="hub")


def test_a_gated_repository_is_denied_without_a_token(hub: Hub, work: Path) -> None:
    """Before anything runs, with what would help; a Secret that is named and absent is SecretMissing."""
    denied = run(hub, work, "denied", named=None)
    assert (denied.code, denied.started()) == (1, [])
    assert "AccessDenied: spec.model.source: hf://org/cut is gated" in denied.stderr
    assert "token" in denied.stderr

    missing = run(hub, work, "missing", named="absent")
    assert (missing.code, missing.started()) == (1, [])
    assert "SecretMissing: the Secret 'absent' is not there" in missing.stderr


@pytest.mark.slow
def test_with_its_token_it_is_mirrored_whole_and_once(hub: Hub, work: Path, first: Ran) -> None:
    """The weights come over the line one time; the store holds the model's own files, and the card its licence."""
    assert first.code == 0, first.stdout[-3000:] + first.stderr[-2000:]
    assert downloads(hub, WEIGHTS) == 1
    assert downloads(hub, "onnx") == 0
    [path] = (work / "store" / "default" / "artifacts" / "base").glob("*/manifest.json")
    base = json.loads(path.read_text())
    names = {file["path"] for file in base["files"]}
    assert {WEIGHTS, "config.json", "tokenizer.json"} <= names
    assert not [name for name in names if "/" in name or name.startswith(".")]
    assert base["made"]["tunesmith"]
    out = work / "first" / "out"
    report = json.loads((out / "report.json").read_text())
    assert (report["base"]["uri"], len(report["base"]["revision"])) == ("hf://org/cut", 40)
    card = (out / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "base_model: org/cut" in card
    assert json.loads((out / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/cut"


@pytest.mark.slow
def test_another_job_over_the_same_model_downloads_no_weights(hub: Hub, work: Path, first: Ran) -> None:
    """Another name, another folder, one store."""
    assert first.code == 0
    second = run(hub, work, "second", named="hub")

    assert second.code == 0, second.stderr
    assert not {"prepare", "train", "convert"} & set(second.started())
    assert downloads(hub, WEIGHTS) == 1
    files = [work / "first" / "out" / "first-Q8_0.gguf", work / "second" / "out" / "second-Q8_0.gguf"]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_a_branch_that_moved_is_not_seen_by_the_same_folder(hub: Hub, work: Path, first: Ran) -> None:
    """The commit was pinned when the job was made; a new output folder is a new job and sees the new one."""
    assert first.code == 0
    report = work / "first" / "out" / "report.json"
    before = json.loads(report.read_text())["base"]
    hub.repositories["model", "org/cut"].push({"tokenizer_config.json": b"{}"})
    hub.repositories["dataset", "org/rows"].push({"street.jsonl": b'{"text": "new"}\n'})
    hub.requests.clear()
    again = run(hub, work, "first", named="hub")

    assert again.code == 0, again.stderr
    assert hub.requests == []
    assert json.loads(report.read_text())["base"] == before
    new = tunesmith("plan", work / "first" / "job.yaml", "--output", work / "new", "--json", **surroundings(hub, work))
    assert new.code == 0, new.stderr
    assert downloads(hub, "tokenizer_config.json") > 0


@pytest.mark.slow
def test_the_token_is_written_nowhere(hub: Hub, work: Path, first: Ran) -> None:
    """Invariant 7: in no log, status, request, report, manifest or artifact, and in nothing that is said."""
    token = hub.token.encode()
    files = [path for path in work.rglob("*") if path.is_file() and work / "secrets" not in path.parents]

    assert {"status.json", "report.json", "prepare.log"} <= {path.name for path in files}
    assert [str(path) for path in files if token in path.read_bytes()] == []
    assert hub.token not in first.stdout + first.stderr
