"""What a stage let through, an exception of any library, is told as what it means for a person."""

import errno
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import pytest

from tunesmith_api import families
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.classify import classified
from tunesmith_trainer.tokenizer import load_tokenizer


class OutOfMemoryError(RuntimeError):
    """As torch's is called."""


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (StageFailure(FailureClass.MODEL_INVALID, "x"), FailureClass.MODEL_INVALID),
        (MemoryError(), FailureClass.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "full"), FailureClass.DISK_FULL),
        (OSError(errno.EDQUOT, "full"), FailureClass.DISK_FULL),
        (OSError(errno.EACCES, "no"), FailureClass.INTERNAL),
        (OutOfMemoryError("CUDA"), FailureClass.OUT_OF_MEMORY_GPU),
        (KeyboardInterrupt(), FailureClass.INTERRUPTED),
        (ModuleNotFoundError("x", name="pyarrow.parquet"), FailureClass.TOOLS_MISSING),
        (ImportError("x", name="tunesmith_trainer.data"), FailureClass.INTERNAL),
        (ImportError("x"), FailureClass.INTERNAL),
        (ValueError("x"), FailureClass.INTERNAL),
    ],
)
def test_an_exception_has_its_class(error: BaseException, failure: FailureClass) -> None:
    assert classified(error).failure is failure
    assert classified(error).hint


@pytest.mark.parametrize("told", [ImportError("x", name="torch"), StageFailure(FailureClass.MODEL_INVALID, "x")])
def test_an_interruption_that_a_library_tells_as_its_own_fault_is_one(told: Exception) -> None:
    """The signal raised in the middle of an import, and whoever imported says that its package is missing."""
    interruption = StageFailure(FailureClass.INTERRUPTED, "train was asked to stop")
    told.__context__ = interruption

    assert classified(told) is interruption


def test_a_package_that_is_missing_is_named_with_its_cure() -> None:
    """The base install runs the command line only (docs/installation.md)."""
    found = classified(ModuleNotFoundError("No module named 'torch'", name="torch"))

    assert "torch" in found.message
    assert "pip install '.[trainer]' in Tunesmith's source folder" in found.hint


def test_a_signal_while_a_tokenizer_is_read_is_no_fault_of_the_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame's handler raises wherever the stage is: in a pod ModelInvalid would never be tried again."""
    import transformers

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise StageFailure(FailureClass.INTERRUPTED, "prepare was asked to stop")

    def interrupted(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    (tmp_path / "tokenizer.json").write_text(
        '{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}, "added_tokens": []}'
    )
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", interrupted)
    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(StageFailure) as caught:
            load_tokenizer(tmp_path, families.load("generic"))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert caught.value.failure is FailureClass.INTERRUPTED


def test_the_base_install_is_told_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare, the first stage, on a machine with the command line alone: the import fails where it first happens."""
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError) as caught:
        load_tokenizer(tmp_path, families.load("generic"))

    assert classified(caught.value).failure is FailureClass.TOOLS_MISSING
