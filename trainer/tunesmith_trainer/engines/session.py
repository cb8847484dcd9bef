"""One attempt at a training: load, go on from a checkpoint or start, train, and write the finished weights."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import Kind
from tunesmith_trainer.engines import Engine, Loaded
from tunesmith_trainer.engines.arguments import training_arguments
from tunesmith_trainer.engines.checkpoints import CheckpointFolders, newest, store
from tunesmith_trainer.engines.host import peak_memory, threads
from tunesmith_trainer.engines.job import TrainingJob
from tunesmith_trainer.engines.journal import Journal, training_figures
from tunesmith_trainer.engines.order import RowOrder, steps_per_epoch
from tunesmith_trainer.engines.packing import packing_is_exact
from tunesmith_trainer.engines.schedule import best_step
from tunesmith_trainer.engines.stepping import callback
from tunesmith_trainer.engines.watch import Watch, peak_gpu_memory
from tunesmith_trainer.engines.weights import replace_folder, restore_weights, save_weights, write_adapter, write_full
from tunesmith_trainer.work import Work

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trained:
    """The artifact's folder and what was measured."""

    folder: Path
    figures: dict[str, Any]


def train(job: TrainingJob, engine: Engine, work: Work) -> Trained:
    """Train once with these batches; raises Interrupted with the step that can be gone on from."""
    import torch

    torch.set_num_threads(threads())
    folders = CheckpointFolders(job.scratch)
    folders.log.unlink(missing_ok=True)
    resumed = newest(work.checkpoints, folders) if work.checkpoints else None
    if resumed is not None:
        log.info("going on from step %d of %d", resumed[0], job.total_steps)
    loaded = engine.load(job)
    if job.packing and not packing_is_exact(job, loaded.model):
        log.warning("rows in one sequence would see each other here: training without packing")
        job = replace(job, packing=False)
    trainer, watch = assemble(job, engine, loaded, work)
    trainer.args.eval_on_start = resumed is not None and watch.evaluation_pending(resumed[0])
    if work.interrupted.is_set():
        raise interrupted(0 if resumed is None else resumed[0], job.total_steps)
    work.await_step()
    trainer.train(resume_from_checkpoint=str(resumed[1]) if resumed else None)
    step = int(trainer.state.global_step)
    if work.interrupted.is_set() and step < job.total_steps and not watch.finished_early:
        raise interrupted(watch.stored_step, job.total_steps)
    return finish(job, loaded, watch, work, step)


def assemble(job: TrainingJob, engine: Engine, loaded: Loaded, work: Work) -> tuple[Any, Watch]:
    """The engine's trainer with our order of rows, our evaluation and our callback."""
    folders = CheckpointFolders(job.scratch)
    effective = job.batching.micro * job.batching.accumulation
    order = RowOrder(job.train.lengths, effective, job.settings.seed)
    trainer = engine.trainer(job, loaded, as_dataset(job))
    trainer.follow(order, job.evaluation, engine.evaluation_collator(job, loaded), work.interrupted)
    watch = Watch(
        job=job,
        journal=Journal(folders.log),
        tokens=order.tokens_by_step(job.total_steps),
        steps_per_epoch=steps_per_epoch(len(job.train), effective),
        progress=work.progress,
        interrupted=work.interrupted,
        store=storing(work, folders),
        keep_best=keeping_best(trainer, folders),
        peak_memory=peak_memory,
    )
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(callback(watch))
    return trainer, watch


def as_dataset(job: TrainingJob) -> Any:
    """The rows as the class that TRL's trainer insists on."""
    import datasets

    return datasets.Dataset(datasets.table.InMemoryTable(job.train.table))


def storing(work: Work, folders: CheckpointFolders) -> Callable[[int, Path], None] | None:
    """What stores a checkpoint, where there is a place for it."""
    checkpoints = work.checkpoints
    if checkpoints is None:
        return None
    return lambda step, written: store(checkpoints, folders, step, written)


def keeping_best(trainer: Any, folders: CheckpointFolders) -> Callable[[int, float], None]:
    """What puts the present weights in the place of the best."""

    def keep(step: int, loss: float) -> None:
        fresh = folders.scratch / "best.partial"
        save_weights(trainer.model, fresh)
        replace_folder(fresh, folders.best)
        log.info("step %d has the best weights so far (loss on held-out rows %.4f)", step, loss)

    return keep


def interrupted(step: int | None, total: int) -> StageFailure:
    """What an orderly stop says."""
    saved = f"saved at step {step} of {total}" if step else f"before anything of {total} steps was saved"
    return StageFailure(FailureClass.INTERRUPTED, f"training was interrupted, {saved}")


def finish(job: TrainingJob, loaded: Loaded, watch: Watch, work: Work, step: int) -> Trained:
    """Write the artifact's folder."""
    folders = CheckpointFolders(job.scratch)
    folder = job.scratch / "adapter"
    evaluations = watch.journal.evaluations()
    best = best_step(evaluations)
    delivered = step
    if job.settings.keep_best and best is not None and best != step:
        restore_weights(loaded.model, folders.best)
        delivered = best
    base = work.meta.get(Kind.BASE, {})
    if job.adapter is None:
        write_full(loaded.model, folder, job.base)
    else:
        write_adapter(loaded.model, folder, base)
    folders.log.replace(folder / folders.log.name)
    events = Journal(folder / folders.log.name).events()
    return Trained(folder, figures(job, watch, events, (step, delivered, best)))


def figures(
    job: TrainingJob, watch: Watch, events: list[dict[str, Any]], steps: tuple[int, int, int | None]
) -> dict[str, Any]:
    """Everything that was measured; `steps` are the last, the delivered and the best one."""
    last, delivered, best = steps
    arguments = training_arguments(job)
    losses = {event["step"]: event["evalLoss"] for event in events if "evalLoss" in event}
    supervised_share = sum(job.train.supervised) / sum(job.train.lengths)
    measured = training_figures(events)
    return {
        **measured,
        "steps": last,
        "totalSteps": job.total_steps,
        "epochs": round(last / watch.steps_per_epoch, 4),
        "deliveredStep": delivered,
        "bestStep": best,
        "evalLoss": losses.get(delivered),
        "supervisedTokens": round(measured.get("tokens", 0) * supervised_share),
        "peakGpuMemoryBytes": peak_gpu_memory(job.device),
        "resumedFrom": watch.started_at_step or None,
        "device": job.device.value,
        "dtype": job.precision.weights,
        "autocast": job.precision.autocast,
        "batchSize": job.batching.micro,
        "accumulation": job.batching.accumulation,
        "gradientCheckpointing": job.batching.checkpointing,
        "optimizer": arguments["optim"],
        "packing": job.packing,
        "attention": job.attention,
        "threads": threads(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of what trained."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "unsloth", "unsloth_zoo"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
