"""A power cut at any stage, and a disk that turns bits: the same command goes on, and what is published is right."""

import copy
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.hub import serving_hub
from support.models import cut, smollm2
from support.runs import Ran, Running, manifest, record, run_job
from support.waiting import wait_until

# Ten runs of one job.
pytestmark = pytest.mark.slow

STAGES = ("prepare", "train", "convert", "imatrix", "baseline", "evaluate", "quantize-Q4_K_M", "publish")


@dataclass(frozen=True)
class Survivor:
    """A job that was killed in every stage, which stages were killed, and how its last run ended."""

    folder: Path
    job: dict[str, Any]
    killed: list[str]
    last: Ran

    @property
    def store(self) -> Path:
        return self.folder / "store" / "default"

    def manifest_of(self, stage: str, kind: str) -> Path:
        key = record(self.folder)["stages"][stage]["keys"]["outputs"][kind]
        return self.store / "artifacts" / kind / key / "manifest.json"

    def file_of(self, stage: str, kind: str, name: str) -> Path:
        return self.store / "attempts" / json.loads(self.manifest_of(stage, kind).read_text())["attempt"] / name


@pytest.fixture(scope="module")
def survivor(tmp_path_factory: pytest.TempPathFactory) -> Survivor:
    """One job of the model's first two layers, each of its stages killed once it has begun to write."""
    model = cut(smollm2(), 2, tmp_path_factory.mktemp("model") / "SmolLM2-cut")
    training = {"maxSteps": 2, "effectiveBatchSize": 4, "maxSequenceLength": 128}
    job = manifest(
        model={"source": f"file://{model}"},
        training=training,
        imatrix={"chunks": 4},
        evaluation={"percent": 14, "prompts": 2, "metric": "Labels", "chunks": 2},
        gates={"onFailure": "Publish"},  # two layers say nothing that would pass
    )
    folder = tmp_path_factory.mktemp("killed")
    return Survivor(folder, job, [killed_in(stage, folder, job) for stage in STAGES], run_job(folder, job))


def killed_in(stage: str, folder: Path, job: dict[str, Any]) -> str:
    """Run until `stage` has written into its working folder, then kill everything."""
    run = Running(folder, job, folder / "store")
    run.until(lambda event: event.get("stage") == stage and event["event"] == "started")
    work = run.work_folder(stage)
    wait_until(lambda: work.exists() and any(work.iterdir()), f"{stage} to write something")
    run.kill_all()
    return stage


def assert_published_whole(folder: Path, store: Path) -> None:
    """The files that the report names have the digests that it names, where the user looks and in the store."""
    latest = json.loads((store / "published" / "small" / "latest.json").read_text())
    files = json.loads((folder / "out" / "report.json").read_text())["files"]
    assert files
    for file in files:
        for place in (folder / "out", store / "published" / "small" / latest["key"][:12]):
            assert hashlib.sha256((place / file["name"]).read_bytes()).hexdigest() == file["sha256"]


def test_killed_at_every_stage_it_ends_well(survivor: Survivor) -> None:
    """No stage stumbles over what a killed one left, and what is published is whole."""
    assert survivor.killed == list(STAGES)
    assert survivor.last.code == 0, survivor.last.stdout[-2000:] + survivor.last.stderr[-2000:]
    assert survivor.last.started() == ["publish"]
    assert_published_whole(survivor.folder, survivor.store)


def test_a_push_that_failed_is_made_by_the_same_command(survivor: Survivor, tmp_path: Path) -> None:
    """The publication is in the store by then: publish is started all the same, and answers from there."""
    job = copy.deepcopy(survivor.job)
    job["spec"]["publish"] = {"hub": {"repo": "org/small", "files": ["*.gguf"], "secretRef": {"name": "hub"}}}
    token = tmp_path / "secrets" / "hub" / "token"
    token.parent.mkdir(parents=True)
    token.write_text("hf_of-somebody-else")
    with serving_hub() as hub:
        environment = {
            "STORE": str(survivor.folder / "store"),
            "TUNESMITH_SECRETS": str(tmp_path / "secrets"),
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
        }
        refused = run_job(tmp_path, job, **environment)
        assert refused.code == 1
        assert "AccessDenied in publish" in refused.stderr
        token.write_text(hub.token)
        again = run_job(tmp_path, job, **environment)
        repository = hub.repositories["model", "org/small"]
        pushed = repository.commits[repository.branches["main"]]

    assert (again.code, again.started()) == (0, ["publish"]), again.stderr
    assert pushed["small-Q4_K_M.gguf"] == (survivor.folder / "out" / "small-Q4_K_M.gguf").read_bytes()
    assert run_job(tmp_path, job, **environment).started() == []


def flip_a_bit(path: Path) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))


@pytest.mark.slow
def test_damaged_artifacts_are_made_again(survivor: Survivor, tmp_path: Path) -> None:
    """Found by who reads them, at a look into the store and at delivery: each maker runs once more (contract 3)."""
    flip_a_bit(survivor.file_of("convert", "gguf", "model.gguf"))
    flip_a_bit(survivor.file_of("imatrix", "imatrix", "imatrix.gguf"))
    flip_a_bit(survivor.file_of("quantize-Q4_K_M", "quantized", "model.gguf"))
    broken = survivor.manifest_of("baseline", "logits")
    broken.chmod(0o644)
    broken.write_text("{")
    more = copy.deepcopy(survivor.job)
    more["spec"]["quantizations"] = ["Q4_K_M", "IQ4_NL"]
    ran = run_job(tmp_path, more, STORE=str(survivor.folder / "store"))

    assert ran.code == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    started = [name for name in ran.started() if name not in ("quantize-IQ4_NL", "baseline", "publish")]
    assert started == ["convert", "imatrix", "quantize-Q4_K_M"]
    assert ran.started()[-3:] == ["publish", "quantize-Q4_K_M", "publish"]
    assert record(tmp_path)["repeat"] == []
    assert_published_whole(tmp_path, survivor.store)
