"""What an output folder may be, and for which job: told in a sentence before anything runs."""

from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from support.builders import DATASETS, MODEL, a_plan, a_spec, resolved
from support.gpu import folder_with_nvidia_smi
from support.tiny_sources import write_sources
from support.waiting import wait_until
from tunesmith.cache import cache_dir
from tunesmith.cli.notes import notes_on_drift
from tunesmith.doctor import gpu_finding
from tunesmith.gpu import nvidia_smi
from tunesmith.local.job import LocalJob, Wanted, begin, execution_of, held, open_job, recorded
from tunesmith.local.processes import start
from tunesmith.local.record import Record, write_record
from tunesmith.manifest import read_manifest
from tunesmith.resolve import Access
from tunesmith.secrets import secrets_root
from tunesmith_api.execution import PrepareExecution
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.spec import FineTuneJob
from tunesmith_api.stages import Stage, StageRequest, StageResult

PLAN = a_plan()


def a_record(name: str, **spec: Any) -> Record:
    """The record of a job that nothing was made for yet."""
    manifest = {"metadata": {"name": name}, "spec": {"model": MODEL, "datasets": DATASETS} | spec}
    return Record(manifest=manifest, store="file:///store", namespace="default")


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    """The folder of a job named facts that has begun."""
    first = PLAN.stages[0]
    write_record(tmp_path, a_record("facts").with_result(PLAN, first.name, StageResult(stage=first.stage)))
    return tmp_path


@pytest.mark.parametrize(
    ("change", "targets"),
    [
        pytest.param({"training": {"lora": {"targetModules": ["qkv_proj"]}}}, ("qkv_proj",), id="named"),
        pytest.param({"training": {"method": "Full"}}, (), id="no adapter"),
        pytest.param({"model": MODEL | {"adapter": "hf://o/a"}}, (), id="an adapter that brings its own"),
    ],
)
def test_prepare_is_told_which_layers_training_asks_for(change: dict[str, Any], targets: tuple[str, ...]) -> None:
    """So that a wrong name ends the job before training takes a GPU."""
    spec = a_spec(**change)
    job = FineTuneJob.model_validate(
        {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "facts"}, "spec": spec}
    )
    record = a_record("facts").model_copy(update={"resolved": resolved(spec)})

    told = execution_of(a_plan(spec).stage("prepare"), job, record, Access(Path()))

    assert PrepareExecution.model_validate(told).lora_targets == targets


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("file", "is a file; it must be a folder"),
        ("file/below", "cannot be made: .*/file is a file"),
        ("link", "is a link to nothing; it must be a folder"),
        ("/proc/below", "the output folder /proc/below cannot be used: nothing can be written in /proc"),
    ],
)
def test_an_output_that_cannot_be_a_folder_is_refused_in_a_sentence(tmp_path: Path, place: str, said: str) -> None:
    """Whoever asks: /proc lets even root write nothing."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "a disk that is not mounted")
    with pytest.raises(StageFailure, match=said) as caught, held(tmp_path / place):
        pass

    assert caught.value.failure is FailureClass.SPEC_INVALID
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_that_begins_nothing_leaves_no_folder(tmp_path: Path) -> None:
    """What was there before stays, and so does what a run has written."""
    with pytest.raises(StageFailure), held(tmp_path / "new"):
        raise StageFailure(FailureClass.SPEC_INVALID, "wrong")
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    with held(tmp_path / "mine"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]
    with held(tmp_path / "begun"):
        write_record(tmp_path / "begun", a_record("facts"))
    assert (tmp_path / "begun" / ".tunesmith" / "status.json").exists()


def test_a_folder_that_another_run_works_in_is_refused(tmp_path: Path) -> None:
    """It is free again when that run has ended."""
    with held(tmp_path), pytest.raises(StageFailure, match="another run is working in"), held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_the_folder_of_another_job_is_told_by_the_names_alone(facts: Path) -> None:
    """What else differs between two jobs helps nobody."""
    with pytest.raises(StageFailure) as caught:
        recorded(facts, a_record("street-reports", training={"seed": 7}))

    assert caught.value.message == f"{facts} holds job 'facts', this is 'street-reports'"


def test_a_changed_job_is_told_what_has_changed(facts: Path) -> None:
    """Each thing that would change what is there."""
    with pytest.raises(StageFailure, match=r"holds job 'facts' as it was before: .*seed"):
        recorded(facts, a_record("facts", training={"seed": 7}))


def test_the_same_job_goes_on_and_an_unstarted_one_may_be_anything(facts: Path, tmp_path: Path) -> None:
    """The record is the folder's own while it holds, and a fresh one otherwise."""
    fresh = a_record("facts")
    assert recorded(facts, fresh).uid != fresh.uid
    assert recorded(tmp_path / "new", fresh) is fresh


def opened(folder: Path, called_with: str | None = None, **spec: Any) -> LocalJob:
    """A job of tiny sources with its manifest in `folder`/job and its output in `folder`/out."""
    if not (folder / "job").exists():
        (folder / "job").mkdir()
        write_sources(folder / "job")
    spec = {"model": {"source": "file://model"}, "datasets": [{"source": "file://rows.jsonl"}]} | spec
    job = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "j"}, "spec": spec}
    (folder / "job" / "job.yaml").write_text(yaml.safe_dump(job))
    return open_job(Wanted(read_manifest(folder / "job" / "job.yaml"), folder / "out", called_with))


@pytest.mark.parametrize("store", ["store", "./store", "file://store", "job/../store/"])
def test_a_relative_store_is_one_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    """Stages, which work in other folders, are told an absolute path; how it is spelt makes no other store."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    local = begin(opened(tmp_path, store))

    assert local.site.location.uri == str(tmp_path / "store")
    assert (tmp_path / "store" / "default" / "runs").is_dir()
    first = local.plan.stages[0]
    write_record(tmp_path / "out", local.record.with_result(local.plan, first.name, StageResult(stage=first.stage)))
    assert opened(tmp_path, str(tmp_path / "store")).record.uid == local.record.uid


def test_what_has_changed_since_a_job_began_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pinned content stays the job's; what is gone, and what no result was made of, is nothing to tell."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    local = begin(opened(tmp_path))
    rows, config = tmp_path / "job" / "rows.jsonl", tmp_path / "job" / "model" / "config.json"
    rows.write_text(rows.read_text() * 2)
    unstarted = opened(tmp_path)
    assert (unstarted.record.uid == local.record.uid, unstarted.drifted) == (False, ())
    first = local.plan.stages[0]
    begun = unstarted.record.with_result(unstarted.plan, first.name, StageResult(stage=first.stage))
    write_record(tmp_path / "out", begun)
    assert opened(tmp_path).drifted == ()

    rows.write_text(rows.read_text() * 2)
    assert opened(tmp_path).drifted == ("spec.datasets[0].source",)
    config.write_text(config.read_text() + " ")
    both = opened(tmp_path)
    assert both.drifted == ("spec.model.source", "spec.datasets[0].source")
    assert both.record.resolved == unstarted.record.resolved
    (said,) = notes_on_drift(both.drifted)
    assert said.startswith("spec.model.source and spec.datasets[0].source have changed since this job began")
    rows.unlink()
    assert opened(tmp_path).drifted == ("spec.model.source",)


@pytest.mark.parametrize("store", ["job/job.yaml", "job/job.yaml/below", "/proc/below"])
def test_a_store_that_cannot_be_one_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    """And not by the first stage that writes to it."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageFailure, match=f"^the store .*{store} (is a file|cannot be)") as caught:
        opened(tmp_path, store)

    assert caught.value.failure is FailureClass.SPEC_INVALID
    assert not (tmp_path / "out").exists()


def test_a_manifests_store_is_one_of_the_manifests_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its other paths are (P37: the same folder wherever the call is made)."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))

    assert opened(tmp_path, store={"uri": "file://artifacts"}).site.location.uri == str(tmp_path / "job" / "artifacts")


def test_folders_of_the_environment_are_the_same_for_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage works in its scratch folder, where a relative path of the user's would lead elsewhere."""
    monkeypatch.chdir(tmp_path)
    named = {"TUNESMITH_CACHE": "cache", "TUNESMITH_SECRETS": "secrets", "TUNESMITH_LLAMA_CPP": "tools"}
    for variable, folder in named.items():
        monkeypatch.setenv(variable, folder)
    local = opened(tmp_path, "store")
    request = StageRequest(stage=Stage.PUBLISH, job=local.site.job, store=local.site.location)
    process = start("publish", request, tmp_path / "scratch", {})
    stage = psutil.Process(process.process.pid)
    # The kernel shows a new program's environment a moment after the program is there.
    wait_until(lambda: "TUNESMITH_CACHE" in stage.environ(), "the environment of the stage")
    environment = stage.environ()
    process.kill()

    assert (cache_dir(), secrets_root()) == (tmp_path / "cache", tmp_path / "secrets")
    assert local.site.secrets == tmp_path / "secrets"
    assert {name: environment[name] for name in named} == {name: str(tmp_path / named[name]) for name in named}


def test_sources_are_reached_as_the_manifest_says_whatever_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--store moves the artifacts alone: an s3:// dataset is still asked for at the service of the manifest."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    service = {"endpoint": "https://minio.example", "region": "eu-1", "caSecretRef": {"name": "ca"}}
    local = opened(tmp_path, str(tmp_path / "store"), store={"uri": "s3://models/x"} | service)
    told = local.site.execution(local.plan.stage(Stage.PREPARE))

    assert (told["endpoint"], told["region"], told["caSecret"]) == ("https://minio.example", "eu-1", "ca")
    assert local.site.location.endpoint is None


@pytest.mark.parametrize("answer", ["NVIDIA L4, 23034, 570.1", ""], ids=["one GPU", "none"])
def test_a_gpu_that_only_the_driver_knows_of_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """WSL2 has no device file; doctor asks the same tool."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(folder_with_nvidia_smi(tmp_path / "bin", answer)))
    local = opened(tmp_path)

    used = local.site.execution(local.plan.stage(Stage.TRAIN))["useGpu"]
    assert used == (bool(answer) or Path("/dev/nvidia0").exists())
    assert gpu_finding(nvidia_smi()).verdict == ("Ok" if answer else "Note")
