"""A store that goes away in the middle of a training: told as such, and gone on from what it holds once it is back."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.datasets import capitals, write_dataset
from support.models import cut, smollm2
from support.servers import S3Server, minio_server
from support.training import train_settings, train_work
from tunesmith.store import open_store
from tunesmith.store.checkpoints import Checkpoints
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import Kind, StoreLocation
from tunesmith_trainer.frame import _Kept
from tunesmith_trainer.train import run

pytest.importorskip("torch", reason="needs the trainer's packages")


def checkpoints_on(server: S3Server, secrets: Path) -> Checkpoints:
    """Those of one training."""
    server.write_secret(secrets / "store")
    location = StoreLocation(uri=f"s3://{server.bucket}", endpoint=server.endpoint, secret="store")
    return Checkpoints(open_store(location, secrets), "default", "a1" * 32)


@pytest.mark.slow
def test_a_training_goes_on_from_what_a_store_held_when_it_went_away(tmp_path: Path) -> None:
    """Killed after the checkpoint of step 2: that of step 4 finds no store, and the next run begins with step 3."""
    parts = {"train": capitals(24), "eval": capitals(6, 1000)}
    inputs = {
        Kind.BASE: cut(smollm2(), 2, tmp_path / "model"),
        Kind.DATASET: write_dataset(tmp_path / "data", smollm2(), parts),
    }

    def trained(name: str, checkpoints: Checkpoints, **named: Any) -> dict[str, Any]:
        execution = {"batch_size": 2, "save_every": 2}
        kept = _Kept(checkpoints)
        work = train_work(inputs, tmp_path / name, train_settings(max_steps=5), execution, checkpoints=kept, **named)
        return dict(run(work).figures)

    with ExitStack() as up:
        checkpoints = checkpoints_on(up.enter_context(minio_server(tmp_path / "one", data=tmp_path / "disk")), tmp_path)

        def stop_at_three(fraction: float, metrics: Any = None) -> None:
            del fraction
            if (metrics or {}).get("current_step") == 3:
                up.close()

        with pytest.raises(StageFailure) as failed:
            trained("first", checkpoints, progress=stop_at_three)
    with minio_server(tmp_path / "two", data=tmp_path / "disk") as server:
        checkpoints = checkpoints_on(server, tmp_path)
        assert checkpoints.steps() == [2]
        figures = trained("again", checkpoints)

    assert failed.value.failure is FailureClass.STORE_UNAVAILABLE
    assert "does not answer" in failed.value.message
    assert "store" in failed.value.hint
    assert (figures["resumedFrom"], figures["steps"]) == (2, 5)
