"""When training evaluates, stores a checkpoint and stops: pure functions of steps, seconds and evaluation losses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# The spec's promise for an unset evalEvery: up to ten evaluations in a run, and so few that measuring takes no more
# than a tenth of it; three are the least among which a best one can be kept.
EVALUATIONS = 10
LEAST_EVALUATIONS = 3
EVALUATION_SHARE = 0.1
# Reading a token costs half of training on it by LoRA: 2 operations per weight against 4, for the gradients of the
# frozen weights are not computed (Kaplan et al. 2020, section 2.1).
_READ_COST = 0.5
# An unset saveEvery: a checkpoint for every tenth of the run, but not in every minute, for it costs an upload; and in
# any case after ten minutes, so that a crash never costs more than those (an orderly stop costs nothing).
CHECKPOINTS = 10
LEAST_SECONDS = 60.0
MOST_SECONDS = 600.0


def evaluation_interval(total_steps: int, eval_every: int | None, train_tokens: int, held_out_tokens: int) -> int:
    """Every how many steps the loss on held-out rows is measured; tokens are the run's, and those of one measuring."""
    if eval_every is not None:
        return eval_every
    affordable = int(EVALUATION_SHARE * train_tokens / (_READ_COST * max(held_out_tokens, 1)))
    return max(1, math.ceil(total_steps / min(max(affordable, LEAST_EVALUATIONS), EVALUATIONS)))


def evaluation_due(step: int, total_steps: int, interval: int) -> bool:
    """At every `interval` and at the end: the last weights are always measured."""
    return step > 0 and (step % interval == 0 or step == total_steps)


@dataclass(frozen=True, slots=True)
class SinceCheckpoint:
    """How much would be lost now: optimizer steps and seconds since the last checkpoint (or the start)."""

    steps: int
    seconds: float


def checkpoint_due(step: int, total_steps: int, save_every: int | None, since: SinceCheckpoint) -> bool:
    """Whether to store a checkpoint after `step`; never after the last one, whose result is stored anyway."""
    if step >= total_steps:
        return False
    if save_every is not None:
        return step % save_every == 0
    if since.seconds >= MOST_SECONDS:
        return True
    return since.steps >= total_steps / CHECKPOINTS and since.seconds >= LEAST_SECONDS


def best_step(evaluations: Sequence[tuple[int, float]]) -> int | None:
    """The (step, loss) pair's step with the lowest loss, the earliest of equals."""
    return min(evaluations, key=lambda pair: (pair[1], pair[0]))[0] if evaluations else None


def no_longer_improves(losses: Sequence[float], patience: int, min_improvement: float) -> bool:
    """Whether the last `patience` losses all failed to get below the best one before by more than `min_improvement`."""
    best, waited = math.inf, 0
    for loss in losses:
        if loss < best - min_improvement:
            best, waited = loss, 0
        else:
            waited += 1
    return waited >= patience
