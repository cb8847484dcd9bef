"""What the frame hands to a stage, and what an earlier call may have left behind."""

from pathlib import Path

from support.builders import a_plan
from tunesmith.store import Artifacts, FolderStore
from tunesmith_api.stages import JobReference, Kind, StageRequest, StoreLocation
from tunesmith_trainer.frame import Call, _work, emptied
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
