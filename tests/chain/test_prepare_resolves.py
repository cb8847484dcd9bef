"""prepare in a cluster: the request has a spec and nothing that is pinned; a laptop then finds all of it done."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

from support.runs import manifest, tunesmith
from tunesmith.store import Artifacts, FolderStore
from tunesmith.store.runs import read_runs
from tunesmith_api.plan import make_plan
from tunesmith_api.resolved import whole
from tunesmith_api.spec import JobSpec
from tunesmith_api.stages import RESULT_BYTES, JobReference, Stage, StageRequest, StageResult, StoreLocation


def prepared(request: StageRequest, folder: Path) -> StageResult:
    """The stage in a process of its own, as in a pod."""
    folder.mkdir()
    (folder / "request.json").write_text(request.model_dump_json(by_alias=True, exclude_none=True))
    call = ["-m", "tunesmith_trainer", "prepare", "--request", "request.json", "--result", "result.json"]
    done = subprocess.run([sys.executable, *call], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "result.json").stat().st_size < RESULT_BYTES
    return StageResult.model_validate_json((folder / "result.json").read_bytes())


def test_a_spec_becomes_what_a_laptop_would_have_made(tmp_path: Path) -> None:
    """The same keys, so that both share artifacts; a second pod only says again what it found."""
    job, store = manifest(), tmp_path / "store"
    spec = JobSpec.model_validate(job["spec"])
    request = StageRequest(
        stage=Stage.PREPARE,
        job=JobReference(name="small", namespace="default", uid="of-the-object"),
        store=StoreLocation(uri=str(store)),
        execution={"spec": job["spec"], "folder": str(tmp_path)},
    )

    first = prepared(request, tmp_path / "first")
    second = prepared(request, tmp_path / "second")

    plan = make_plan("small", spec, whole(first.figures["resolved"], spec))
    artifacts = Artifacts(FolderStore(store), "default")
    assert artifacts.holds(plan.stage("prepare").outputs[0].kind, plan.stage("prepare").key)
    assert first.figures["trainRows"] > 0
    assert (first.reused, second.reused) == (False, True)
    assert first.figures["resolved"] == second.figures["resolved"]
    assert second.figures["present"] == ["prepare"]
    (kept,) = read_runs(artifacts.store, "default").values()
    assert {(each.kind, each.key) for each in kept.keys} == set(plan.keys())
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    laptop = tunesmith("plan", tmp_path / "job.yaml", "--store", store, "--json")
    stages = {stage["name"]: stage["inStore"] for stage in json.loads(laptop.stdout)["stages"]}
    assert stages["prepare"]
    assert not stages["train"]
