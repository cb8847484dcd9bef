"""What our trainer does otherwise than transformers' own, whichever class it extends: order of rows, evaluation."""

import threading
from typing import Any

from tunesmith_trainer.engines.collate import IGNORED, Collator
from tunesmith_trainer.engines.order import RowOrder
from tunesmith_trainer.engines.rows import Rows


class Stepping:
    """Mixed in before a transformers Trainer by `trainer_class`; `follow` says what to follow before it trains."""

    model: Any
    args: Any
    control: Any
    state: Any
    callback_handler: Any

    def follow(self, order: RowOrder, evaluation: Rows, collator: Collator, interrupted: threading.Event) -> None:
        """Rows come in `order`; `evaluation` rows are laid out by `collator` and left when `interrupted` is set."""
        self._order = order
        self._evaluation = evaluation
        self._evaluation_collator = collator
        self._interrupted = interrupted

    def _get_train_sampler(self, train_dataset: Any = None) -> RowOrder:
        del train_dataset
        return self._order

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """The mean cross entropy per supervised token of all held-out rows, in nats.

        transformers' own is a mean over batches, which depends on how rows fall into them. When interrupted there is no
        figure, but for the last step's: the evaluation is made up for when training goes on.
        """
        del eval_dataset, ignore_keys
        last = self.state.global_step >= self.args.max_steps
        unwanted = threading.Event() if last else self._interrupted
        loss = mean_loss(self, self._evaluation, self._evaluation_collator, unwanted)
        metrics = {} if loss is None else {f"{metric_key_prefix}_loss": loss}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if loss is None:
            self.control.should_save = True
            self.control.should_training_stop = True
        return metrics


def mean_loss(trainer: Any, rows: Rows, collator: Collator, interrupted: threading.Event) -> float | None:
    """Sum of the cross entropies of all supervised tokens over their number; None when interrupted."""
    import torch

    trainer.model.eval()
    size = trainer.args.per_device_eval_batch_size
    order = sorted(range(len(rows)), key=lambda row: rows.lengths[row])
    total, count = 0.0, 0
    for start in range(0, len(order), size):
        if interrupted.is_set():
            return None
        batch = collator(rows.table.take(order[start : start + size]).to_pylist())
        supervised = int((batch["shift_labels"] if collator.select else batch["labels"][:, 1:]).ne(IGNORED).sum())
        with torch.no_grad(), trainer.compute_loss_context_manager():
            # The model's own loss is the mean over the supervised tokens of the batch.
            loss = trainer.model(**trainer._prepare_inputs(batch)).loss  # noqa: SLF001  # the trainer's own way to its device
        total += float(loss) * supervised
        count += supervised
    return total / count


def trainer_class(base: type) -> Any:
    """`base` (transformers' Trainer or a class of it) with our stepping."""
    return type("SteppingTrainer", (Stepping, base), {})


def callback(watch: Any) -> Any:
    """`watch` as a callback that transformers accepts: events that it does not name stay transformers' own."""
    from transformers import TrainerCallback

    events = {name: getattr(watch, name) for name in dir(watch) if name.startswith("on_")}
    handlers = {name: _forward(method) for name, method in events.items()}
    return type("WatchCallback", (TrainerCallback,), handlers)()


def _forward(method: Any) -> Any:
    def event(_self: Any, args: Any, state: Any, control: Any, **named: Any) -> None:
        method(args, state, control, **named)

    return event
