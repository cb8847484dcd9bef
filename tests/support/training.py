"""Calls of the stage `train` for tests: requests, work, and checkpoints in a folder."""

import hashlib
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_api.execution import TrainExecution
from tunesmith_api.settings import LoraSettings, TrainSettings
from tunesmith_api.stages import JobReference, Kind, Stage, StageRequest, StoreLocation
from tunesmith_trainer.engines.batching import Batching, ModelShape
from tunesmith_trainer.engines.job import TrainingJob
from tunesmith_trainer.engines.precision import Device, Precision
from tunesmith_trainer.engines.rows import Rows
from tunesmith_trainer.engines.what_fits import Room
from tunesmith_trainer.work import Work

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def train_settings(**changes: Any) -> TrainSettings:
    """Valid settings of a small LoRA training; a test names only what it is about."""
    defaults: dict[str, Any] = {
        "method": "LoRA",
        "engine": "Transformers",
        "epochs": 1.0,
        "max_steps": None,
        "max_sequence_length": 256,
        "learning_rate": 1e-3,
        "scheduler": "Cosine",
        "warmup_ratio": 0.03,
        "weight_decay": 0.0,
        "optimizer": "AdamW",
        "effective_batch_size": 4,
        "packing": False,
        "seed": 42,
        "eval_every": None,
        "keep_best": False,
        "early_stopping": None,
        "lora": LoraSettings(rank=8, alpha=16, dropout=0.0, target_modules=ALL_LINEAR),
    }
    return TrainSettings.model_validate(defaults | changes)


@dataclass
class FolderCheckpoints:
    """Checkpoints in a folder: whole or absent, with a digest of every file; `after_save` is told of each step."""

    folder: Path
    after_save: Any = None
    saved: list[int] = field(default_factory=list)

    def save(self, step: int, folder: Path) -> None:
        partial = self.folder / f"{step}.partial"
        shutil.copytree(folder, partial)
        (partial.with_suffix(".sums")).write_text("\n".join(f"{d} {p}" for p, d in _digests(partial).items()))
        shutil.rmtree(self.folder / f"step-{step}", ignore_errors=True)
        partial.rename(self.folder / f"step-{step}")
        (self.folder / f"{step}.sums").rename(self.folder / f"step-{step}.sums")
        self.saved.append(step)
        if self.after_save is not None:
            self.after_save(step)

    def newest(self, into: Path) -> tuple[int, Path] | None:
        steps = sorted((int(path.stem.removeprefix("step-")) for path in self.folder.glob("step-*.sums")), reverse=True)
        for step in steps:
            stored = self.folder / f"step-{step}"
            wanted = (self.folder / f"step-{step}.sums").read_text().splitlines()
            if wanted == [f"{digest} {path}" for path, digest in _digests(stored).items()]:
                shutil.rmtree(into, ignore_errors=True)
                shutil.copytree(stored, into)
                return step, into
        return None


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass
class Posts:
    """Remembers what was posted as progress."""

    seen: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, fraction: float, metrics: Any = None) -> None:
        self.seen.append((fraction, dict(metrics or {})))


@dataclass
class InterruptAt:
    """Progress that interrupts as soon as `step` is told."""

    step: int
    interrupted: threading.Event = field(default_factory=threading.Event)

    def __call__(self, fraction: float, metrics: Any = None) -> None:
        del fraction
        if (metrics or {}).get("current_step") == self.step:
            self.interrupted.set()

    def named(self) -> dict[str, Any]:
        """What of a `Work` this is."""
        return {"progress": self, "interrupted": self.interrupted}


def training_job(**changes: Any) -> TrainingJob:
    """What an engine is told of a small LoRA training on a CPU; a test names only what it is about."""
    defaults: dict[str, Any] = {
        "settings": train_settings(),
        "base": Path(),
        "adapter": None,
        "start_adapter": None,
        "train": Rows(None, (100, 50), (10, 10)),
        "evaluation": Rows(None, (), ()),
        "pad_id": 0,
        "total_steps": 1,
        "packing": False,
        "attention": "sdpa",
        "device": Device.CPU,
        "precision": Precision("float32"),
        "batching": Batching(1, 1, checkpointing=False),
        "room": Room(ModelShape(hidden=64, layers=2, heads=4, vocabulary=1000), "sdpa", {}, 100),
        "save_every": None,
        "scratch": Path(),
    }
    return TrainingJob(**(defaults | changes))


def train_work(
    inputs: dict[Kind, Path],
    scratch: Path,
    settings: TrainSettings,
    execution: dict[str, Any] | None = None,
    **named: Any,
) -> Work:
    """A call of `train` with these inputs."""
    scratch.mkdir(parents=True, exist_ok=True)
    request = StageRequest(
        stage=Stage.TRAIN,
        job=JobReference(name="test", namespace="default", uid="0"),
        store=StoreLocation(uri="file:///nowhere"),
        settings=settings.model_dump(mode="json"),
        execution=TrainExecution.model_validate(execution or {}).model_dump(mode="json"),
    )
    defaults: dict[str, Any] = {
        "progress": Posts(),
        "interrupted": threading.Event(),
        "tools": _no_tools,
        "meta": {Kind.BASE: {"name": "SmolLM2-135M-Instruct", "uri": "hf://HuggingFaceTB/SmolLM2", "revision": "abc"}},
    }
    return Work(request=request, inputs=inputs, scratch=scratch, **(defaults | named))


def _no_tools() -> Any:
    raise AssertionError("train needs no tools of llama.cpp")
