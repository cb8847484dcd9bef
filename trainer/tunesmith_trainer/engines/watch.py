"""What happens beside the steps of a training: log, progress, divergence, evaluations, checkpoints, interruption."""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.engines.job import TrainingJob
from tunesmith_trainer.engines.journal import Journal
from tunesmith_trainer.engines.precision import Device
from tunesmith_trainer.engines.schedule import (
    SinceCheckpoint,
    best_step,
    checkpoint_due,
    evaluation_due,
    evaluation_interval,
    no_longer_improves,
)
from tunesmith_trainer.work import Progress

log = logging.getLogger(__name__)


def divergence(step: int, loss: float, grad_norm: float) -> str | None:
    """Why this step shows that training has failed, or None (P27).

    Healthy losses are 0.5 to 2 with gradients of 0.1 to 10 (axolotl's guide to stability); a loss of exactly 0 with
    no gradient means that nothing was supervised, and what is not a number never becomes one again.
    """
    if not math.isfinite(loss):
        return f"the loss of step {step} is {loss}"
    if not math.isfinite(grad_norm):
        return f"the gradient of step {step} is {grad_norm} (loss {loss:.4f})"
    if loss == 0 and grad_norm == 0:
        return f"the loss of step {step} is 0 and nothing is learned from it"
    return None


@dataclass(slots=True)
class Watch:
    """The callback's state; `store` stores a checkpoint's folder (None: there is nowhere to store one).

    `tokens` are those of each step, `keep_best` is called when the weights are the best so far. The methods are named
    after the events of transformers' TrainerCallback, which hands over its arguments, state and control.
    """

    job: TrainingJob
    journal: Journal
    tokens: Sequence[int]
    steps_per_epoch: int
    progress: Progress
    interrupted: threading.Event
    store: Callable[[int, Path], None] | None
    keep_best: Callable[[int, float], None]
    peak_memory: Callable[[], int]
    started_at_step: int = 0
    stored_step: int | None = None
    finished_early: bool = False
    interval: int = field(init=False)
    _mark: float = field(default_factory=time.perf_counter)
    _step_seconds: float = 0.0
    _seconds: float = 0.0
    _since_step: int = 0
    _since_time: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Steps between evaluations are known from the start."""
        held_out = sum(self.job.evaluation.lengths)
        every = self.job.settings.eval_every
        self.interval = evaluation_interval(self.job.total_steps, every, sum(self.tokens), held_out)

    def on_train_begin(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        """Time counts from here: loading the model is not training."""
        del control
        self.started_at_step = self._since_step = state.global_step
        self._seconds = self.journal.seconds()
        self._since_time = time.monotonic()
        self._mark = time.perf_counter()
        self.progress(state.global_step / self.job.total_steps, {"phase": "training"})

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        """Decide what has to happen before the next step."""
        now = time.perf_counter()
        self._step_seconds, self._mark = now - self._mark, now
        self._seconds += self._step_seconds
        step, total = state.global_step, self.job.total_steps
        control.should_evaluate = self.evaluates and evaluation_due(step, total, self.interval)
        since = SinceCheckpoint(step - self._since_step, time.monotonic() - self._since_time)
        save_every = self.job.save_every
        control.should_save = self.store is not None and checkpoint_due(step, total, save_every, since)
        if self.interrupted.is_set() and step < total:
            self.stop(control)

    def stop(self, control: Any) -> None:
        """Leave after this step, with a checkpoint where there is a place for one; what is left to do comes later."""
        control.should_evaluate = False
        control.should_save = self.store is not None
        control.should_training_stop = True

    def on_log(self, _args: Any, state: Any, control: Any, **named: Any) -> None:
        """Write the event down; raises TrainingDiverged, before anything of this step is stored."""
        del control
        logs: Mapping[str, float] = named["logs"]
        if "loss" not in logs:
            return
        step = state.global_step
        loss, grad_norm = float(logs["loss"]), float(logs.get("grad_norm", 0.0))
        tokens = self.tokens[step - 1]
        event = {
            "step": step,
            "epoch": round(step / self.steps_per_epoch, 4),
            "loss": loss,
            "learningRate": logs.get("learning_rate"),
            "gradNorm": grad_norm,
            "tokens": tokens,
            "tokensPerSecond": round(tokens / self._step_seconds, 1) if self._step_seconds else None,
            "seconds": round(self._seconds, 3),
            "memoryBytes": self.peak_memory(),
        }
        self.journal.append(event)
        self._tell(event)
        reason = divergence(step, loss, grad_norm)
        if reason is not None:
            raise StageFailure(FailureClass.TRAINING_DIVERGED, f"training diverged: {reason}")

    def on_evaluate(self, _args: Any, state: Any, control: Any, **named: Any) -> None:
        """Write the evaluation down, keep the weights where they are the best, stop where it no longer falls."""
        loss = named["metrics"].get("eval_loss")
        if loss is not None:
            step = state.global_step
            self.journal.append({"step": step, "epoch": round(step / self.steps_per_epoch, 4), "evalLoss": loss})
            if not math.isfinite(loss):
                reason = f"the loss on held-out rows is {loss} after step {step}"
                raise StageFailure(FailureClass.TRAINING_DIVERGED, f"training diverged: {reason}")
            log.info("step %d/%d: loss on held-out rows %.4f", step, self.job.total_steps, loss)
            evaluations = self.journal.evaluations()
            if self.job.settings.keep_best and best_step(evaluations) == step:
                self.keep_best(step, loss)
            stopping = self.job.settings.early_stopping
            losses = [value for _, value in evaluations]
            if stopping and no_longer_improves(losses, stopping.patience, stopping.min_improvement):
                log.info("stopping early at step %d: the loss on held-out rows no longer falls", step)
                control.should_training_stop = True
                self.finished_early = True
        self._mark = time.perf_counter()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Store the checkpoint that the trainer has written."""
        del control
        step = state.global_step
        if self.store is not None:
            self.store(step, Path(args.output_dir) / f"checkpoint-{step}")
            self.stored_step = step
            total = self.job.total_steps
            self.progress(step / total, {"current_step": step, "total_steps": total, **self._safe()})
        self._since_step, self._since_time = step, time.monotonic()
        self._mark = time.perf_counter()

    @property
    def evaluates(self) -> bool:
        """Whether there are held-out rows."""
        return len(self.job.evaluation) > 0

    def evaluation_pending(self, step: int) -> bool:
        """Whether an interruption took the place of the evaluation that was due at `step`."""
        due = self.evaluates and evaluation_due(step, self.job.total_steps, self.interval)
        return due and step not in [evaluated for evaluated, _ in self.journal.evaluations()]

    def _safe(self) -> dict[str, int]:
        """The step of the newest checkpoint, which a training that is killed goes on from."""
        step = self.started_at_step if self.stored_step is None else self.stored_step
        return {"checkpoint_step": step} if step else {}

    def _tell(self, event: Mapping[str, Any]) -> None:
        step, total = event["step"], self.job.total_steps
        metrics = {
            "loss": event["loss"],
            "grad_norm": event["gradNorm"],
            "learning_rate": event["learningRate"],
            "epoch": event["epoch"],
            "current_step": step,
            "total_steps": total,
            "tokens_per_second": event["tokensPerSecond"] or 0.0,
            "memory_bytes": event["memoryBytes"],
            **self._safe(),
        }
        evaluations = self.journal.evaluations() if self.evaluates else []
        if evaluations:
            metrics["eval_loss"] = evaluations[-1][1]
        self.progress(step / total, metrics)
        log.info("step %d/%d: loss %.4f, %s tokens/s", step, total, event["loss"], event["tokensPerSecond"])


def peak_gpu_memory(device: Device) -> int | None:
    """The most GPU memory that torch has held, in bytes; None on a CPU."""
    if device is Device.CPU:
        return None
    import torch

    return int(torch.cuda.max_memory_reserved())
