"""A checkpoint is whole or it is not one (P23, P25)."""

import json
import struct
import zipfile
from pathlib import Path

import pytest

from tunesmith_trainer.engines.checkpoint_files import problems


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Small files in the real formats."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"12345678")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("archive/data.pkl", b"x" * 500)
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 6}))
    return tmp_path


def test_a_whole_checkpoint_has_no_problems(checkpoint: Path):
    """All that training goes on from is there."""
    assert problems(checkpoint, 6) == []


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
def test_nothing_may_be_missing(checkpoint: Path, name: str):
    """P23: without any of them a resumed run drifts or diverges, silently."""
    (checkpoint / name).unlink()

    assert [f"{name} is missing"] == problems(checkpoint, 6)


def test_there_must_be_weights(checkpoint: Path):
    """An optimizer without weights is nothing to go on from."""
    (checkpoint / "adapter_model.safetensors").unlink()

    assert problems(checkpoint, 6) == ["no safetensors file"]


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "optimizer.pt", "rng_state.pth"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.98])
def test_a_file_cut_short_is_noticed(checkpoint: Path, name: str, keep: float):
    """What a full disk or a kill leaves behind."""
    content = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(content[: int(len(content) * keep)])

    assert [f"{name} is damaged"] == problems(checkpoint, 6)


def test_a_flipped_bit_in_the_optimizer_is_noticed(checkpoint: Path):
    """torch's files are zip archives, and those carry sums."""
    content = bytearray((checkpoint / "optimizer.pt").read_bytes())
    content[100] ^= 1
    (checkpoint / "optimizer.pt").write_bytes(bytes(content))

    assert problems(checkpoint, 6) == ["optimizer.pt is damaged"]


def test_the_state_has_to_be_of_the_same_step(checkpoint: Path):
    """Files of two checkpoints in one folder are none."""
    assert problems(checkpoint, 7) == ["trainer_state.json is of step 6, not of 7"]
