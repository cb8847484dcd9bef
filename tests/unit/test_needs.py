"""What a stage asks of a node: pure functions of dimensions and settings, larger for what is larger."""

from typing import Any

import pytest

from support.builders import a_plan, a_spec, dimensions, resolved
from tunesmith_api.effective import resolve_settings
from tunesmith_api.needs import (
    GIBIBYTE,
    LONGEST_GRACE_SECONDS,
    UPLOAD_BYTES_PER_SECOND,
    grace_seconds,
    memory_bytes,
    scratch_bytes,
)
from tunesmith_api.spec import JobSpec

# Mistral-7B's.
LARGE = dimensions(
    hiddenSize=4096,
    intermediateSize=14336,
    layers=32,
    heads=32,
    kvHeads=8,
    headDim=128,
    vocabSize=32768,
    parameters=7_248_023_552,
    bytes=14_496_047_104,
)


def needs_of(stage: str, spec: JobSpec | None = None, *, gpu: bool = False, **model: Any) -> tuple[int, int, int]:
    """Scratch and memory in bytes, and grace in seconds."""
    spec = spec or a_spec()
    pinned = resolved(spec, **model)
    planned, values = a_plan(spec).stage(stage), resolve_settings("job", spec, pinned)
    memory = memory_bytes(planned, pinned, values, gpu=gpu)
    return scratch_bytes(planned, pinned, values), memory, grace_seconds(planned, pinned, values)


def trained(**training: Any) -> tuple[int, int, int]:
    return needs_of("train", a_spec(training=training))


def test_what_was_measured_fits() -> None:
    """SmolLM2 on a CPU, rows of 128 tokens: training took 2.04 GB."""
    assert 2_044_000_000 < trained(maxSequenceLength=128)[1] < 4 * GIBIBYTE


def test_full_training_takes_more_than_an_adapter_and_a_quantized_base_less() -> None:
    """By the bytes per parameter."""
    full, lora, qlora = (trained(method=method)[1] for method in ("Full", "LoRA", "QLoRA"))
    assert full > lora > qlora


def test_a_gpu_takes_the_rows_from_the_hosts_memory() -> None:
    """The weights only pass through."""
    assert needs_of("train", gpu=True)[1] < needs_of("train")[1]


def test_only_training_gets_time_to_save_and_never_more_than_ten_minutes() -> None:
    """A checkpoint of a full training is three times the model."""
    assert needs_of("convert")[2] == 30
    assert 30 < trained(method="LoRA")[2] < trained(method="Full")[2] < LONGEST_GRACE_SECONDS
    assert 3 * LARGE.bytes / UPLOAD_BYTES_PER_SECOND > LONGEST_GRACE_SECONDS
    assert needs_of("train", a_spec(training={"method": "Full"}), dimensions=LARGE)[2] == LONGEST_GRACE_SECONDS == 600


@pytest.mark.parametrize("stage", [stage.name for stage in a_plan().stages])
def test_every_stage_asks_for_something(stage: str) -> None:
    """A request of nothing would be placed on a full node."""
    scratch, memory, grace = needs_of(stage)
    assert scratch >= GIBIBYTE
    assert memory >= GIBIBYTE
    assert grace >= 30
