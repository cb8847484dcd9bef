"""The base model and the prepared dataset become an adapter or full weights, with the training's log and figures."""

import json
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tunesmith_api.execution import TrainExecution
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.settings import TrainSettings
from tunesmith_api.stages import Kind
from tunesmith_api.training import Method
from tunesmith_trainer.base_model import caps_attention, read_json
from tunesmith_trainer.engines import Engine, engine_of
from tunesmith_trainer.engines.adapter import AdapterShape, shape_from_adapter, shape_from_settings
from tunesmith_trainer.engines.batching import Limits, batching, shape_of
from tunesmith_trainer.engines.device import find_device, free_memory, wants_gpu
from tunesmith_trainer.engines.environment import prepare_process
from tunesmith_trainer.engines.job import TrainingJob
from tunesmith_trainer.engines.order import total_steps
from tunesmith_trainer.engines.precision import Device, attention, precision
from tunesmith_trainer.engines.rows import read_rows
from tunesmith_trainer.engines.session import Trained, train
from tunesmith_trainer.engines.what_fits import Room, what_fits
from tunesmith_trainer.work import Outcome, Output, Work

log = logging.getLogger(__name__)


def run(work: Work) -> Outcome:
    """Train as the request says; goes on from the newest checkpoint where there is one.

    Raises Interrupted after a checkpoint is stored, TrainingDiverged, OutOfMemoryGPU, OutOfMemory, SpecInvalid,
    ModelInvalid, DatasetInvalid.
    """
    settings = TrainSettings.model_validate(work.request.settings)
    execution = TrainExecution.model_validate(work.request.execution)
    work.progress(0.0, {"phase": "loading"})
    use_gpu = wants_gpu(execution)
    prepare_process(use_gpu, work.scratch)
    engine = engine_of(settings.engine)
    job = prepare_job(work, settings, execution.model_copy(update={"use_gpu": use_gpu}), engine)
    trained = train_within_memory(job, lambda attempt: train(attempt, engine, work))
    figures = {**trained.figures, "engine": settings.engine.value, "method": settings.method.value}
    (trained.folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    headline = ("steps", "trainLoss", "evalLoss", "tokensPerSecond", "seconds", "peakMemoryBytes", "resumedFrom")
    return Outcome(
        outputs={Kind.ADAPTER: Output(trained.folder, {"method": settings.method.value})},
        figures={name: figures[name] for name in headline if figures.get(name) is not None},
    )


def prepare_job(work: Work, settings: TrainSettings, execution: TrainExecution, engine: Engine) -> TrainingJob:
    """Read and check the inputs, and choose precision and batches for this machine."""
    base, dataset = work.inputs[Kind.BASE], work.inputs[Kind.DATASET]
    config = read_json(base / "config.json")
    shape = shape_of(config)
    train_rows = read_rows(dataset / "train.parquet", settings.max_sequence_length, shape.vocabulary)
    evaluation = read_rows(dataset / "eval.parquet", settings.max_sequence_length, shape.vocabulary)
    if not len(train_rows):
        raise StageFailure(FailureClass.DATASET_TOO_SMALL, "the prepared dataset has no rows to train on")
    engine.import_libraries()
    device, bf16 = find_device(execution)
    effective = min(settings.effective_batch_size, len(train_rows))
    free = free_memory(device)
    format_ = precision(settings.method, device, bf16)
    longest = max(train_rows.lengths)
    by_method = {method: free - weights_bytes(base, method, device) for method in (settings.method, Method.QLORA)}
    wanted = "eager" if settings.attention == "sdpa" and caps_attention(config) else settings.attention
    # Packed rows make one long sequence, and plain attention grows with its square.
    computed_by = wanted if settings.packing else attention(wanted, device, format_.weights, longest)
    micro = divisor(effective, execution.batch_size)
    limits = Limits(device.value, computed_by, micro, execution.gradient_checkpointing)
    return TrainingJob(
        settings=settings,
        base=base,
        adapter=adapter_shape(settings, work.inputs.get(Kind.ADAPTER)),
        start_adapter=work.inputs.get(Kind.ADAPTER),
        train=train_rows,
        evaluation=evaluation,
        pad_id=int(json.loads((dataset / "figures.json").read_bytes())["padId"]),
        total_steps=total_steps(len(train_rows), effective, settings.epochs, settings.max_steps),
        packing=settings.packing,
        attention=computed_by,
        device=device,
        precision=format_,
        batching=batching(shape, by_method[settings.method], longest, effective, limits),
        room=Room(shape, computed_by, by_method, longest),
        save_every=execution.save_every,
        scratch=work.scratch,
    )


def adapter_shape(settings: TrainSettings, start_adapter: Path | None) -> AdapterShape | None:
    """None for full fine-tuning; the start adapter's own shape where training goes on from one."""
    if settings.method is Method.FULL:
        return None
    if settings.lora is None:
        raise StageFailure(FailureClass.SPEC_INVALID, f"training.lora is needed for {settings.method}")
    if start_adapter is not None:
        return shape_from_adapter(start_adapter, settings.lora.dropout)
    return shape_from_settings(settings.lora)


def divisor(effective: int, wanted: int | None) -> int | None:
    """The largest divisor of `effective` that is at most `wanted` (fewer rows than a batch make the batch smaller)."""
    if wanted is None:
        return None
    return next(size for size in range(min(wanted, effective), 0, -1) if effective % size == 0)


def weights_bytes(base: Path, method: Method, device: Device) -> int:
    """Bytes of the loaded weights and, for full fine-tuning, of their gradients and AdamW's two moments in fp32.

    Files are taken to hold 16-bit values; NF4 with double quantization takes 0.516 byte per parameter (QLoRA paper,
    section 3: 4.127 bits).
    """
    parameters = sum(path.stat().st_size for path in base.glob("*.safetensors")) / 2
    per_parameter = {Method.FULL: 16.0, Method.QLORA: 0.6, Method.LORA: 2.0 if device is Device.CUDA else 4.0}
    return math.ceil(parameters * per_parameter[method])


def train_within_memory(job: TrainingJob, attempt: Callable[[TrainingJob], Trained]) -> Trained:
    """Train; where the GPU's memory does not suffice, once more with half the rows at once (P26), recorded.

    Raises OutOfMemoryGPU or OutOfMemory.
    """
    try:
        return attempt(job)
    except Exception as error:
        kind = memory_failure(error)
        if kind is None:
            raise
        if kind is FailureClass.OUT_OF_MEMORY or job.batching.micro == 1:
            raise out_of_memory(kind, job) from error
    smaller = replace(job, batching=job.batching.halved())
    log.warning(
        "the GPU's memory did not suffice for %d rows: again with %d", job.batching.micro, smaller.batching.micro
    )
    release_gpu_memory()
    try:
        trained = attempt(smaller)
    except Exception as error:
        kind = memory_failure(error)
        if kind is None:
            raise
        raise out_of_memory(kind, smaller) from error
    return replace(trained, figures={**trained.figures, "batchSizeAfterOutOfMemory": smaller.batching.micro})


def memory_failure(error: BaseException) -> FailureClass | None:
    """Whether `error` means that memory ran out, and where: torch says so in several ways."""
    if type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in str(error):
        return FailureClass.OUT_OF_MEMORY_GPU
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error):
        return FailureClass.OUT_OF_MEMORY
    return None


def out_of_memory(kind: FailureClass, job: TrainingJob) -> StageFailure:
    """The failure, with what was tried; on a GPU with what would fit."""
    on_gpu = kind is FailureClass.OUT_OF_MEMORY_GPU
    message = (
        f"{'the GPU' if on_gpu else 'this machine'} ran out of memory with {job.batching.micro} rows of up to "
        f"{max(job.train.lengths)} tokens at once"
    )
    return StageFailure(kind, message, what_fits(job.room, job.settings.method, job.batching) if on_gpu else None)


def release_gpu_memory() -> None:
    """Give back what a failed attempt held."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()
