"""What happens when memory does not suffice (P26)."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from support.training import training_job
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.training import Method
from tunesmith_trainer.engines.batching import Batching, ModelShape
from tunesmith_trainer.engines.job import TrainingJob
from tunesmith_trainer.engines.precision import Device, Precision
from tunesmith_trainer.engines.session import Trained
from tunesmith_trainer.engines.what_fits import Room, what_fits
from tunesmith_trainer.train import train_within_memory

pytest.importorskip("torch", reason="needs the trainer's packages")


def a_job(micro: int, accumulation: int) -> TrainingJob:
    return training_job(
        device=Device.CUDA,
        precision=Precision("bfloat16"),
        batching=Batching(micro, accumulation, checkpointing=False),
    )


@dataclass
class Gpu:
    """An attempt at training on a GPU that holds `rows` rows."""

    rows: int
    tried: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, job: TrainingJob) -> Trained:
        self.tried.append((job.batching.micro, job.batching.accumulation))
        if job.batching.micro > self.rows:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return Trained(Path(), {"steps": 1})


def test_half_the_rows_are_tried_once():
    """The same optimizer step in two halves, recorded in the figures."""
    gpu = Gpu(rows=4)

    assert train_within_memory(a_job(8, 2), gpu).figures == {"steps": 1, "batchSizeAfterOutOfMemory": 4}
    assert gpu.tried == [(8, 2), (4, 4)]


def test_what_fits_is_tried_once():
    """No restart and no record without a reason."""
    gpu = Gpu(rows=8)

    assert train_within_memory(a_job(8, 2), gpu).figures == {"steps": 1}
    assert gpu.tried == [(8, 2)]


@pytest.mark.parametrize(("rows", "micro", "tries"), [(0, 1, 1), (1, 8, 2)], ids=["one row", "half is still too much"])
def test_what_does_not_fit_fails_with_its_class(rows: int, micro: int, tries: int):
    """After one restart, or at once where there is nothing to halve."""
    gpu = Gpu(rows=rows)

    with pytest.raises(StageFailure, match=r"the GPU ran out of memory with . rows of up to 100 tokens") as found:
        train_within_memory(a_job(micro, 1), gpu)
    assert found.value.failure is FailureClass.OUT_OF_MEMORY_GPU
    assert len(gpu.tried) == tries


def test_host_memory_is_not_tried_again():
    """The same would happen again, and the next process may be killed for it."""

    def attempt(_job: TrainingJob) -> Trained:
        raise MemoryError

    with pytest.raises(StageFailure, match="this machine ran out of memory") as found:
        train_within_memory(a_job(8, 2), attempt)
    assert found.value.failure is FailureClass.OUT_OF_MEMORY


def test_other_errors_pass_through():
    """Only memory is handled here."""

    def attempt(_job: TrainingJob) -> Trained:
        raise ValueError("shapes do not match")

    with pytest.raises(ValueError, match="shapes"):
        train_within_memory(a_job(8, 2), attempt)


# Llama 3.2 3B, by its config.json.
SHAPE = ModelShape(hidden=3072, layers=28, heads=24, vocabulary=128_256)
GIBIBYTE = 1 << 30


@pytest.mark.parametrize(
    ("free", "tried", "said"),
    [
        (15, 4, "training.batchSize: 1 with gradientCheckpointing: true."),
        (9, 1, "training.maxSequenceLength: 2048, or training.method: QLoRA with rows of up to 4096 tokens."),
        (2, 1, "training.maxSequenceLength: 576, or training.method: QLoRA with rows of up to 2112 tokens."),
        (0, 1, "fits, in a new job: training.method: QLoRA with rows of up to 1536 tokens."),
        (-9, 1, "nothing fits this GPU: choose a smaller model, or a GPU with more memory."),
    ],
)
def test_the_failure_says_what_would_fit(free: int, tried: int, said: str):
    """QLoRA leaves five gibibytes more to rows."""
    by_method = {Method.LORA: free * GIBIBYTE, Method.QLORA: (free + 5) * GIBIBYTE}
    room = Room(SHAPE, "sdpa", by_method, longest=4096)

    with pytest.raises(StageFailure) as found:
        train_within_memory(
            replace(a_job(1, 8), room=room, batching=Batching(tried, 8, checkpointing=True)), Gpu(rows=0)
        )
    assert said in found.value.hint


def test_no_advice_repeats_what_did_not_fit():
    """An estimate may be wrong: half the length is the most that is advised after one row did not fit."""
    room = Room(SHAPE, "sdpa", {Method.LORA: 900 * GIBIBYTE, Method.QLORA: 900 * GIBIBYTE}, longest=1000)

    assert "training.maxSequenceLength: 448" in what_fits(room, Method.LORA, Batching(1, 8, checkpointing=True))
