"""A training job becomes the arguments of transformers' TrainingArguments and of TRL's SFTConfig, which extends it."""

import math
from typing import Any

from tunesmith_api.training import Optimizer, Scheduler
from tunesmith_trainer.engines.job import TrainingJob
from tunesmith_trainer.engines.precision import Device

_SCHEDULERS = {
    Scheduler.LINEAR: "linear",
    Scheduler.COSINE: "cosine",
    Scheduler.CONSTANT: "constant_with_warmup",
}
_OPTIMIZERS = {
    Optimizer.ADAMW: "adamw_torch_fused",
    Optimizer.ADAMW_8BIT: "adamw_8bit",
    Optimizer.PAGED_ADAMW_8BIT: "paged_adamw_8bit",
    Optimizer.ADAFACTOR: "adafactor",
}


def optimizer(name: Optimizer, device: Device) -> str:
    """The trainer's name of the optimizer; 8-bit and paged ones gain nothing on a CPU and become AdamW (P77)."""
    if device is Device.CPU and name is not Optimizer.ADAFACTOR:
        return _OPTIMIZERS[Optimizer.ADAMW]
    return _OPTIMIZERS[name]


def warmup_steps(ratio: float, total_steps: int) -> int:
    """The steps in which the learning rate rises: `ratio` of all, rounded up (as transformers rounds a share)."""
    return math.ceil(ratio * total_steps)


def training_arguments(job: TrainingJob) -> dict[str, Any]:
    """All arguments that matter, none left to a default that a library may change."""
    settings, batching = job.settings, job.batching
    on_cpu = job.device is Device.CPU
    return {
        "output_dir": str(job.scratch / "trainer"),
        "max_steps": job.total_steps,
        "per_device_train_batch_size": batching.micro,
        "gradient_accumulation_steps": batching.accumulation,
        "per_device_eval_batch_size": batching.micro,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": _SCHEDULERS[Scheduler(settings.scheduler)],
        # As a number of steps: a share of 1 would be taken for one step.
        "warmup_steps": warmup_steps(settings.warmup_ratio, job.total_steps),
        "weight_decay": settings.weight_decay,
        "optim": optimizer(Optimizer(settings.optimizer), job.device),
        # The default of transformers' TrainingArguments (5.17).
        "max_grad_norm": 1.0,
        "seed": settings.seed,
        "data_seed": settings.seed,
        # Said outright: libraries take a bf16 that this machine may not have for granted (P22).
        "use_cpu": on_cpu,
        "bf16": job.precision.autocast,
        "fp16": False,
        "gradient_checkpointing": batching.checkpointing,
        # The other way gives recomputed layers no gradient where only frozen ones come before them (P21).
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "dataloader_pin_memory": not on_cpu,
        "remove_unused_columns": False,
        "prediction_loss_only": True,
        "logging_steps": 1,
        # The default filter shows a NaN as loss 0.0 (P27).
        "logging_nan_inf_filter": False,
        # Evaluations and checkpoints are asked for by our own callback.
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
