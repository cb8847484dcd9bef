"""What the frame hands to a stage, and what an earlier call may have left behind."""

from pathlib import Path

from support.builders import a_plan
from tunesmith.store import Artifacts, FolderStore
from tunesmith_api.stages import ArtifactReference, JobReference, Kind, Stage, StageRequest, StoreLocation
from tunesmith_trainer.frame import Call, _to_fetch, _work, emptied
from tunesmith_trainer.interruption import Interruption
from tunesmith_trainer.report_progress import no_progress


def test_the_base_is_not_converted_again_for_another_job(tmp_path: Path) -> None:
    """Its GGUF is keyed by the base alone; only where it is replaced, or absent, is it asked for."""
    artifacts = Artifacts(FolderStore(tmp_path / "store"), "default")
    stage = a_plan().stage("convert")
    request = StageRequest(
        stage=stage.stage,
        job=JobReference(name="job", namespace="default", uid="u"),
        store=StoreLocation(uri=str(tmp_path / "store")),
        outputs=stage.outputs,
    )

    def asked_for(*, replace: bool = False) -> list[Kind]:
        call = Call(request, tmp_path, tmp_path, artifacts, Interruption(request.stage), replace)
        return [output.kind for output in _work(call, {}, no_progress).request.outputs]

    assert asked_for() == [Kind.GGUF, Kind.BASE_GGUF]
    (tmp_path / "made").mkdir()
    for output in stage.outputs:
        artifacts.commit(output.kind, output.key, tmp_path / "made")
    assert asked_for() == [Kind.GGUF]
    assert asked_for(replace=True) == [Kind.GGUF, Kind.BASE_GGUF]


def test_what_a_killed_call_left_is_gone_but_for_what_was_fetched(tmp_path: Path) -> None:
    """Files, folders and links to folders, whose targets stay."""
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "file").touch()
    work = tmp_path / "work"
    (work / "quantized").mkdir(parents=True)
    (work / "quantized" / "model.gguf.partial").touch()
    (work / "base").mkdir()
    (work / "link").symlink_to(tmp_path / "target")

    assert [path.name for path in emptied(work, {"base"}).iterdir()] == ["base"]
    assert (tmp_path / "target" / "file").exists()
    assert list(emptied(work).iterdir()) == []
    assert emptied(tmp_path / "new").is_dir()


class Elsewhere(FolderStore):
    """A store that nothing is read in place of."""

    def local_path(self, name: str) -> Path | None:
        del name


def test_what_a_stage_fetches_is_told_by_what_it_reads(tmp_path: Path) -> None:
    """publish reads figures and answers, not the models; a folder on this machine is read in place."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "model.gguf").write_bytes(b"x" * 1000)
    (tmp_path / "made" / "figures.json").write_bytes(b"{}")
    reference = ArtifactReference(kind=Kind.GGUF, key="k" * 64)

    def told(stage: Stage, store: FolderStore) -> int | None:
        artifacts = Artifacts(store, "default")
        manifest = artifacts.commit(reference.kind, reference.key, tmp_path / "made")
        job, location = JobReference(name="job", namespace="default", uid="u"), StoreLocation(uri=str(tmp_path))
        request = StageRequest(stage=stage, job=job, store=location, inputs=(reference,))
        call = Call(request, tmp_path, tmp_path, artifacts, Interruption(stage))
        return _to_fetch(call, {reference: manifest})

    elsewhere = Elsewhere(tmp_path / "store")
    assert told(Stage.QUANTIZE, elsewhere) == 1002
    assert told(Stage.PUBLISH, elsewhere) == 2
    assert told(Stage.QUANTIZE, FolderStore(tmp_path / "store")) is None
