"""The trainer's checkpoint folders go into the store with the log and the best weights, and come back from it."""

import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.engines.checkpoint_files import BEST, LOG, PICKLED, STATE, problems, weight_files
from tunesmith_trainer.work import Checkpoints

log = logging.getLogger(__name__)

# Beside the weights: what transformers needs of an adapter or of shards. Its pickled arguments (training_args.bin), the
# tokenizer and the model card stay behind.
_DESCRIPTIONS = ("adapter_config.json", "config.json", "model.safetensors.index.json")


@dataclass(frozen=True, slots=True)
class CheckpointFolders:
    """Where things are in the scratch folder: `log` and `best` travel with every checkpoint."""

    scratch: Path

    @property
    def log(self) -> Path:
        """The journal's file."""
        return self.scratch / LOG

    @property
    def best(self) -> Path:
        """The weights of the lowest evaluation loss so far; absent before the first evaluation or without keepBest."""
        return self.scratch / BEST

    @property
    def resumed(self) -> Path:
        """Where the checkpoint is that training goes on from."""
        return self.scratch / "resumed"


def store(checkpoints: Checkpoints, folders: CheckpointFolders, step: int, written: Path) -> None:
    """Store what the trainer has `written` for `step`, then remove it here; raises Internal if it is not whole."""
    wrong = problems(written, step)
    if wrong:
        raise StageFailure(FailureClass.INTERNAL, f"the checkpoint of step {step} was not written whole: {wrong[0]}")
    staging = folders.scratch / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    described = [written / name for name in (STATE, *PICKLED, *_DESCRIPTIONS) if (written / name).is_file()]
    _link([*described, *weight_files(written)], staging)
    # A copy: the log is written on while a store may keep what it was given.
    shutil.copyfile(folders.log, staging / LOG)
    if folders.best.is_dir():
        (staging / BEST).mkdir()
        _link(folders.best.iterdir(), staging / BEST)
    checkpoints.save(step, staging)
    shutil.rmtree(staging, ignore_errors=True)
    shutil.rmtree(written)
    log.info("stored the checkpoint of step %d", step)


def newest(checkpoints: Checkpoints, folders: CheckpointFolders) -> tuple[int, Path] | None:
    """The step and folder to go on from, its log and best weights put in their places; None to start anew."""
    found = checkpoints.newest(folders.resumed)
    if found is None:
        return None
    step, folder = found
    wrong = problems(folder, step)
    if wrong:
        log.warning("the checkpoint of step %d cannot be used (%s): training starts anew", step, wrong[0])
        return None
    if (folder / LOG).is_file():
        shutil.copyfile(folder / LOG, folders.log)
    if (folder / BEST).is_dir():
        # Not left there: transformers takes every subfolder with adapter weights for an adapter to load.
        shutil.rmtree(folders.best, ignore_errors=True)
        shutil.move(folder / BEST, folders.best)
    return step, folder


def _link(files: Iterable[Path], into: Path) -> None:
    for file in files:
        try:
            os.link(file, into / file.name)
        except OSError:
            shutil.copyfile(file, into / file.name)
