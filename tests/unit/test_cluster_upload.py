"""What lies on this machine gets an address in the store; the manifest names it, and the Secret that reads it."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cli import called
from support.tiny_sources import MODEL, ROWS, write_sources
from tunesmith.cluster.problem import ClusterProblem
from tunesmith.cluster.reach import reached
from tunesmith.cluster.upload import ADAPTER, Upload, uploads_of, with_uploads
from tunesmith.manifest import parse_manifest
from tunesmith_api.resolved import ResolvedFile
from tunesmith_api.spec import FineTuneJob
from tunesmith_api.stages import StoreLocation

STORE = StoreLocation(uri="s3://bucket/prefix/", secret="minio", namespace="team")
ROWS_DIGEST = hashlib.sha256(ROWS.encode()).hexdigest()


def text(**spec: Any) -> str:
    """A manifest of a tiny model and its rows."""
    fields = {"model": {"source": "file://model"}, "datasets": [{"source": "file://rows.jsonl"}]} | spec
    head = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "bot"}}
    return yaml.safe_dump(head | {"spec": fields}, sort_keys=False)


def a_job(**spec: Any) -> FineTuneJob:
    return parse_manifest(text(**spec))


def written(job: FineTuneJob) -> dict[str, Any]:
    return job.model_dump(mode="json", by_alias=True, exclude_unset=True)


def test_only_what_a_stage_takes_is_sent(tmp_path: Path) -> None:
    """Of a model's folder neither checkpoints nor pickles; a file of rows is named by its own digest."""
    write_sources(tmp_path)
    (tmp_path / "model" / "optimizer.pt").write_text("large")
    (tmp_path / "model" / "README.md").write_text("---\nlicense: mit\n---\n")
    model, rows = uploads_of(a_job(), tmp_path)

    assert {file.path for file in model.files} == {*MODEL, "README.md"}
    assert model.address(STORE) == f"s3://bucket/prefix/team/uploads/{model.digest}/model"
    assert rows.address(STORE) == f"s3://bucket/prefix/team/uploads/{ROWS_DIGEST}/rows.jsonl"
    assert rows.object_name("team", rows.files[0]) == f"team/uploads/{ROWS_DIGEST}/rows.jsonl"


def test_a_folder_of_rows_keeps_its_names(tmp_path: Path) -> None:
    """Splits are told by them."""
    write_sources(tmp_path)
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    for name in ("train/a.jsonl", "train/b.jsonl", "test.jsonl"):
        (data / name).write_text(ROWS)
    _, rows = uploads_of(a_job(datasets=[{"source": "file://data"}]), tmp_path)

    assert [file.path for file in rows.files] == ["train/a.jsonl", "train/b.jsonl"]
    assert rows.object_name("team", rows.files[0]) == f"team/uploads/{rows.digest}/data/train/a.jsonl"


def an_upload(*field: str | int) -> Upload:
    file = ResolvedFile(path="x.jsonl", size=1, digest="sha256:" + "d" * 64)
    return Upload(field, Path("here"), (file,), "x.jsonl", single=True)


DATASET = an_upload("spec", "datasets", 0, "source")
ADDRESS = f"s3://bucket/prefix/team/uploads/{'d' * 64}/x.jsonl"


def test_the_manifest_names_the_store_and_its_secret() -> None:
    """What was for another service goes; all else is as it is written."""
    dataset = {"source": "file://x.jsonl", "weight": 2, "endpoint": "http://other", "secretRef": {"name": "other"}}
    job = written(a_job(model={"source": "hf://org/model", "secretRef": {"name": "hub"}}, datasets=[dataset]))
    made = with_uploads(job, [DATASET], STORE, "minio")

    assert made["spec"]["datasets"] == [{"source": ADDRESS, "weight": 2, "secretRef": {"name": "minio"}}]
    assert made["spec"]["model"] == {"source": "hf://org/model", "secretRef": {"name": "hub"}}
    assert job["spec"]["datasets"][0]["source"] == "file://x.jsonl"


def test_a_store_that_pods_read_without_a_secret_needs_none() -> None:
    """They have a role."""
    made = with_uploads(written(a_job(datasets=[{"source": "file://x.jsonl"}])), [DATASET], STORE, None)

    assert made["spec"]["datasets"] == [{"source": ADDRESS}]


@pytest.mark.parametrize(
    ("model", "secret", "taken"),
    [
        pytest.param({"source": "hf://org/m"}, None, True, id="a public model, a store without a Secret"),
        pytest.param({"source": "hf://org/m"}, "minio", False, id="a public model would be read with the store's"),
        pytest.param({"source": "hf://org/m", "secretRef": {"name": "hub"}}, "minio", False, id="two Secrets"),
        pytest.param({"source": "s3://b/m", "secretRef": {"name": "minio"}}, "minio", True, id="the same Secret"),
    ],
)
def test_model_and_adapter_are_read_with_one_secret(model: dict[str, Any], secret: str | None, taken: bool) -> None:
    """What cannot be is refused before anything is sent."""
    job = written(a_job(model=model | {"adapter": "file://x"}))
    if taken:
        assert with_uploads(job, [an_upload(*ADAPTER)], STORE, secret)["spec"]["model"]["adapter"] == ADDRESS
        return
    with pytest.raises(ClusterProblem, match="one Secret"):
        with_uploads(job, [an_upload(*ADAPTER)], STORE, secret)


def test_without_upload_a_file_is_refused_with_its_line(tmp_path: Path) -> None:
    """And with what helps; no cluster is asked."""
    (tmp_path / "job.yaml").write_text(text(store={"uri": "file://store"}))
    found = called("submit", tmp_path / "job.yaml", KUBECONFIG=str(tmp_path / "none"))

    assert found.code == 2
    assert "spec.model.source (line 7): file://model is of this machine" in found.stderr
    assert "spec.datasets[0].source (line 9): file://rows.jsonl" in found.stderr
    assert "spec.store.uri (line 11): file://store: pods share no folder" in found.stderr
    assert "--upload" in found.stderr


def test_a_manifest_that_validate_refuses_is_refused(tmp_path: Path) -> None:
    """With the same words, before anything is sent."""
    (tmp_path / "job.yaml").write_text(text(training={"epochs": "three"}))
    refused = called("submit", tmp_path / "job.yaml", "--upload", KUBECONFIG=str(tmp_path / "none"))
    validated = called("validate", tmp_path / "job.yaml", "--offline")

    assert refused.code == validated.code == 2
    assert "spec.training.epochs" in refused.stderr
    assert refused.stderr.replace("SpecInvalid: ", "").split() == validated.stdout.replace("SpecInvalid: ", "").split()


@pytest.mark.parametrize("more", [[], ["--upload"]])
def test_an_option_without_effect_is_refused(tmp_path: Path, more: list[str]) -> None:
    """Rather than passed over: there is nothing to upload."""
    sources = {"model": {"source": "hf://org/m"}, "datasets": [{"source": "s3://b/rows.jsonl"}]}
    (tmp_path / "job.yaml").write_text(text(**sources))
    found = called("submit", tmp_path / "job.yaml", "--store", "s3://bucket", *more, KUBECONFIG=str(tmp_path / "none"))

    assert found.code == 2
    assert "Leave them out" in found.stderr


def test_a_store_of_this_machine_is_refused_with_nothing_to_upload_too(tmp_path: Path) -> None:
    """Pods share no folder, whatever the sources are."""
    sources = {"model": {"source": "hf://org/m"}, "datasets": [{"source": "s3://b/rows.jsonl"}]}
    (tmp_path / "job.yaml").write_text(text(**sources, store={"uri": "file://store"}))
    found = called("submit", tmp_path / "job.yaml", "--upload", KUBECONFIG=str(tmp_path / "none"))

    assert found.code == 2
    assert "spec.store.uri" in found.stderr


def test_credentials_are_this_machine_s(tmp_path: Path) -> None:
    """A Secret counts where its folder is; else the environment does, and no name is looked for in vain."""
    (tmp_path / "minio").mkdir()
    location = StoreLocation(uri="s3://b", endpoint="http://in-cluster", secret="minio", ca_secret="ca")

    assert reached(location, None, tmp_path) == location.model_copy(update={"ca_secret": None})
    away = reached(location, "http://localhost:9000", tmp_path / "none")
    assert (away.endpoint, away.secret, away.uri) == ("http://localhost:9000", None, "s3://b")
