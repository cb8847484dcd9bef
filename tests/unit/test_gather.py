"""The first step of prepare: mirrored is what was pinned, with what made it and without a path of this machine."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.servers import minio_server
from support.tiny_sources import CONFIG
from support.web import serving_web
from tunesmith.resolve import Access, resolve
from tunesmith.store import Artifacts, FileEntry, FolderStore, Manifest
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.spec import JobSpec
from tunesmith_api.stages import ArtifactReference, JobReference, Kind, Stage, StageRequest, StoreLocation
from tunesmith_trainer.gather import gather
from tunesmith_trainer.work import moving

FILES = {
    "config.json": json.dumps(CONFIG),
    "model.safetensors": "weights",
    "tokenizer.json": "{}",
    "README.md": "---\nlicense: mit\n---\n",
    "adapter/adapter_config.json": "{}",
    "adapter/adapter_model.safetensors": "adapter",
}


class Prepared:
    """A job whose sources are pinned, a store for it, and its `gather`."""

    def __init__(self, folder: Path, access: Access, spec: dict[str, Any]) -> None:
        self.folder, self.access = folder, access
        (folder / "rows.jsonl").write_text("{}\n")
        self.spec = JobSpec.model_validate({"datasets": [{"source": "file://rows.jsonl"}]} | spec)
        self.resolved = resolve(self.spec, access)
        self.artifacts = Artifacts(FolderStore(folder / "store"), "default")
        self.phases: list[str] = []

    def gather(self, *, replace: bool = False) -> dict[Kind, Manifest | None]:
        """Carry it out; what is in the store then."""
        outputs = tuple(ArtifactReference(kind=kind, key="k" * 64) for kind in (Kind.BASE, Kind.ADAPTER))
        wanted = outputs if self.resolved.adapter else outputs[:1]
        told = {
            "model": self.spec.model.to_json_dict(),
            "datasets": [dataset.to_json_dict() for dataset in self.spec.datasets],
            "evaluation": self.spec.evaluation.to_json_dict(),
            "resolved": self.resolved.to_json_dict(),
            "folder": str(self.access.base),
        }
        told |= {"endpoint": self.access.endpoint} if self.access.endpoint else {}
        request = StageRequest(
            stage=Stage.PREPARE,
            job=JobReference(name="test", namespace="default", uid="0"),
            store=StoreLocation(uri=str(self.folder / "store")),
            outputs=wanted,
            execution=told,
            replace=replace,
            secrets=None if self.access.secrets is None else str(self.access.secrets),
        )
        gather(request, self.artifacts, self.folder / "scratch", self._tell)
        return {output.kind: self.artifacts.find(output.kind, output.key) for output in wanted}

    def _tell(self, fraction: float, metrics: Mapping[str, float | int | str] | None = None) -> None:
        assert fraction == 0
        self.phases.append(str((metrics or {})["phase"]))


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """A model and an adapter in folders of a user."""
    for name, text in FILES.items():
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text(text)
    model = {"source": "file://model", "adapter": f"file://{tmp_path}/model/adapter"}
    return Prepared(tmp_path, Access(tmp_path), {"model": model})


def test_what_is_mirrored_says_what_it_is(prepared: Prepared) -> None:
    """The licence for the card and what made it (contract 3), but no path of this machine (P37)."""
    found = prepared.gather()
    base, adapter = found[Kind.BASE], found[Kind.ADAPTER]
    assert base is not None
    assert adapter is not None

    assert {file.path for file in base.files} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert base.meta["license"] == "mit"
    assert base.meta["name"] == base.meta["uri"] == "model"
    assert str(prepared.folder) not in base.model_dump_json() + adapter.model_dump_json()
    assert all(manifest.made["tunesmith"] and manifest.made["time"] for manifest in (base, adapter))
    assert prepared.phases == [*["fetching", "storing"] * 2, "fetching"]
    prepared.gather()
    assert prepared.phases[5:] == ["fetching"]


def test_what_is_on_its_way_is_told_with_its_size() -> None:
    """From where somebody would wonder."""
    assert moving("fetching", 15_234_000_000) == {"phase": "fetching 15.2 GB"}
    assert moving("storing", 99_999_999) == {"phase": "storing"}


class Meanwhile(FolderStore):
    """A folder that another writer is faster in: it acts when the first file arrives."""

    def __init__(self, root: Path, other: Callable[[], object]) -> None:
        super().__init__(root)
        self.other: Callable[[], object] | None = other

    def put_file(self, source: Path, name: str, *, give: bool = False) -> FileEntry:
        other, self.other = self.other, None
        if other is not None:
            other()
        return super().put_file(source, name, give=give)


def test_of_two_jobs_that_begin_at_once_the_first_to_store_the_base_stays(prepared: Prepared, tmp_path: Path) -> None:
    """Contract 3: what has been made of it names its manifest; only a repair writes over it."""
    spec = prepared.spec.to_json_dict()
    (tmp_path / "late").mkdir()
    late = Prepared(tmp_path / "late", prepared.access, spec)
    first: dict[Kind, Manifest | None] = {}
    late.artifacts = Artifacts(Meanwhile(prepared.folder / "store", lambda: first.update(prepared.gather())), "default")

    assert late.gather() == first
    assert prepared.gather() == first
    repaired = prepared.gather(replace=True)
    assert all(repaired[kind] != first[kind] for kind in (Kind.BASE, Kind.ADAPTER))


def test_held_out_rows_of_their_own_lie_beside_the_training_rows(prepared: Prepared, tmp_path: Path) -> None:
    """In the folder that prepare reads them from; rows that were exchanged since are not laid out."""
    (tmp_path / "held-out.jsonl").write_text('{"text": "held out"}\n')
    spec = prepared.spec.to_json_dict() | {"evaluation": {"dataset": {"source": "file://held-out.jsonl"}}}
    asked = Prepared(tmp_path, prepared.access, spec)
    asked.gather()

    sources = tmp_path / "scratch" / "sources"
    found = {str(path.relative_to(sources)): path.read_text() for path in sources.rglob("*.jsonl")}
    assert found == {"0/rows.jsonl": "{}\n", "evaluation/held-out.jsonl": '{"text": "held out"}\n'}
    (tmp_path / "held-out.jsonl").write_text('{"text": "exchanged"}\n')
    with pytest.raises(StageFailure, match=r"held-out\.jsonl has changed"):
        asked.gather()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "adapter/adapter_model.safetensors"])
@pytest.mark.parametrize("change", ["other bytes", "", None])
def test_a_model_that_changed_is_not_stored_under_the_old_key(
    prepared: Prepared, name: str, change: str | None
) -> None:
    """Every job with the true old model would train on it, under the old digest."""
    path = prepared.folder / "model" / name
    if change is None:
        path.unlink()
    else:
        path.write_text(change)
    with pytest.raises(StageFailure, match=path.name) as caught:
        prepared.gather()

    # What does not arrive may yet.
    away = FailureClass.SOURCE_UNAVAILABLE if change is None else FailureClass.SOURCE_ABSENT
    assert caught.value.failure is away
    assert prepared.artifacts.find(Kind.ADAPTER if "/" in name else Kind.BASE, "k" * 64) is None


def test_an_archive_is_mirrored_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files stay in the cache, unlinked from the store, for the next job; its address is told without the query."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(f"model/{name}", text)
    with serving_web(tmp_path / "web") as web:
        monkeypatch.setenv("SSL_CERT_FILE", str(web.authority))
        monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
        source = web.put("/m.zip", packed.getvalue(), etag="1") + "?signature=of-the-owner"
        base = Prepared(tmp_path, Access(tmp_path), {"model": {"source": source}}).gather()[Kind.BASE]
        url = web.url

    assert base is not None
    assert {file.path for file in base.files} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert (base.meta["uri"], base.meta["license"]) == (f"{url}/m.zip", "mit")
    [kept] = (tmp_path / "cache" / "sources").glob("archive-*/model/model.safetensors")
    assert kept.stat().st_nlink == 1


def test_a_model_in_a_bucket_that_changed_is_not_stored(tmp_path: Path) -> None:
    """S3 tells versions by time: what was written since it was pinned is another model, of the same size too."""
    with minio_server(tmp_path / "minio") as server:
        server.write_secret(tmp_path / "secrets" / "own")

        def upload(name: str, text: str) -> None:
            (tmp_path / "file").write_text(text)
            server.client().fput_object(server.bucket, f"models/m/{name}", str(tmp_path / "file"))

        for name, text in FILES.items():
            upload(name, text)
        model = {"source": f"s3://{server.bucket}/models/m", "secretRef": {"name": "own"}}
        access = Access(tmp_path, tmp_path / "secrets", endpoint=server.endpoint)
        prepared = Prepared(tmp_path, access, {"model": model})
        base = prepared.gather()[Kind.BASE]
        assert base is not None
        assert base.meta["uri"] == f"s3://{server.bucket}/models/m"

        again = Prepared(tmp_path, access, {"model": model})
        again.artifacts = Artifacts(FolderStore(tmp_path / "other"), "default")
        upload("model.safetensors", FILES["model.safetensors"].upper())
        with pytest.raises(StageFailure, match=r"has changed since this job was made \(model\.safetensors\)"):
            again.gather()
        assert again.artifacts.find(Kind.BASE, "k" * 64) is None
