"""When training evaluates, stores and stops."""

import math
import threading
from types import SimpleNamespace

import pytest

from support.training import Posts, training_job
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.engines.journal import Journal, training_figures
from tunesmith_trainer.engines.schedule import (
    SinceCheckpoint,
    best_step,
    checkpoint_due,
    evaluation_due,
    evaluation_interval,
    no_longer_improves,
)
from tunesmith_trainer.engines.watch import Watch, divergence
from tunesmith_trainer.train import memory_failure


@pytest.mark.parametrize(
    ("total", "every", "held_out", "expected"),
    [
        pytest.param(100, None, 1_000, 10, id="ten in a run"),
        pytest.param(7, None, 1_000, 1, id="a short run"),
        pytest.param(25, None, 1_000, 3, id="rounded up"),
        pytest.param(100, 7, 1_000_000, 7, id="as the manifest says, whatever it costs"),
        pytest.param(100, None, 40_000, 20, id="five take a tenth of the run"),
        pytest.param(100, None, 1_000_000, 34, id="three at the least"),
    ],
)
def test_evaluation_interval(total: int, every: int | None, held_out: int, expected: int):
    """Up to ten, in up to a tenth of the time of a run of a million tokens, unless the manifest says otherwise."""
    assert expected == evaluation_interval(total, every, 1_000_000, held_out)


def test_the_last_step_is_always_evaluated():
    """The weights that are delivered have a figure, whatever the interval."""
    assert [step for step in range(11) if evaluation_due(step, 10, 4)] == [4, 8, 10]


@pytest.mark.parametrize(
    ("step", "every", "since", "expected"),
    [
        pytest.param(6, 3, SinceCheckpoint(3, 1.0), True, id="every third step, as said"),
        pytest.param(7, 3, SinceCheckpoint(1, 9999.0), False, id="what is said wins over time"),
        pytest.param(20, None, SinceCheckpoint(10, 61.0), True, id="a tenth of the run and a minute"),
        pytest.param(20, None, SinceCheckpoint(10, 5.0), False, id="steps that fly by"),
        pytest.param(20, None, SinceCheckpoint(1, 601.0), True, id="ten minutes may be lost, no more"),
        pytest.param(100, 10, SinceCheckpoint(10, 9999.0), False, id="the last step's result is stored anyway"),
    ],
)
def test_checkpoint_due(step: int, every: int | None, since: SinceCheckpoint, expected: bool):
    """A checkpoint where the manifest says, else by what would be lost."""
    assert expected == checkpoint_due(step, 100, every, since)


@pytest.mark.parametrize(
    ("losses", "patience", "least", "expected"),
    [
        pytest.param([3.0, 2.0, 1.0], 2, 0.0, False, id="falling"),
        pytest.param([3.0, 2.0, 2.1, 2.2], 2, 0.0, True, id="two in a row above the best"),
        pytest.param([3.0, 2.0, 2.1, 1.9], 2, 0.0, False, id="a new best starts the count again"),
        pytest.param([3.0, 2.95, 2.91], 2, 0.1, True, id="falling by too little"),
        pytest.param([3.0, 2.0, math.nan, math.nan], 2, 0.0, True, id="not a number is no improvement"),
    ],
)
def test_no_longer_improves(losses: list[float], patience: int, least: float, expected: bool):
    """Early stopping counts evaluations in a row that were no new best."""
    assert expected == no_longer_improves(losses, patience, least)


def test_the_best_step_is_the_earliest_of_equals():
    """Training that no longer gains anything is not called better."""
    assert best_step([(2, 1.5), (4, 1.0), (6, 1.0)]) == 4
    assert best_step([]) is None


@pytest.mark.parametrize(
    ("loss", "grad_norm", "diverged"),
    [
        pytest.param(1.2, 0.8, False, id="healthy"),
        pytest.param(0.0001, 0.001, False, id="learned by heart"),
        pytest.param(math.nan, 0.8, True, id="P27: loss is not a number"),
        pytest.param(1.2, math.nan, True, id="P27: gradient is not a number"),
        pytest.param(1.2, math.inf, True, id="P27: gradient overflows"),
        pytest.param(0.0, 0.0, True, id="P27: nothing was supervised"),
    ],
)
def test_divergence(loss: float, grad_norm: float, diverged: bool):
    """What stops a training, and what does not."""
    assert diverged == (divergence(3, loss, grad_norm) is not None)


def test_weights_that_compute_no_numbers_are_found_at_their_evaluation(tmp_path):
    """P27: the step before it was fine, what it made of the weights is not; there is no best to keep among such."""
    watch = Watch(
        job=training_job(total_steps=2),
        journal=Journal(tmp_path / "log.jsonl"),
        tokens=[10, 10],
        steps_per_epoch=2,
        progress=Posts(),
        interrupted=threading.Event(),
        store=None,
        keep_best=lambda *_: None,
        peak_memory=lambda: 0,
    )

    with pytest.raises(StageFailure, match="loss on held-out rows is nan after step 1") as found:
        watch.on_evaluate(None, SimpleNamespace(global_step=1), None, metrics={"eval_loss": math.nan})
    assert found.value.failure is FailureClass.TRAINING_DIVERGED


def test_the_journal_survives_a_line_cut_short(tmp_path):
    """A kill in the middle of a line costs that line only, and what is not a number is written as null."""
    journal = Journal(tmp_path / "log.jsonl")
    journal.append({"step": 1, "loss": 2.0, "tokens": 10, "seconds": 2.0, "memoryBytes": 5})
    journal.append({"step": 1, "evalLoss": 1.5})
    journal.append({"step": 2, "loss": math.nan, "tokens": 10, "seconds": 4.0, "memoryBytes": 7})
    with journal.path.open("a") as file:
        file.write('{"step": 3, "lo')

    assert [event["step"] for event in journal.events()] == [1, 1, 2]
    assert journal.evaluations() == [(1, 1.5)]
    assert journal.seconds() == 4.0
    assert {
        name: value
        for name, value in training_figures(journal.events()).items()
        if name in ("trainLoss", "tokensPerSecond", "peakMemoryBytes")
    } == {"trainLoss": 2.0, "tokensPerSecond": 5.0, "peakMemoryBytes": 5}


def test_evaluations_are_known_without_reading_the_log_again(tmp_path):
    """Asked for at every step: a training of 10,000 steps would read 50 million lines."""
    path = tmp_path / "log.jsonl"
    Journal(path).append({"step": 1, "evalLoss": 2.5})
    resumed = Journal(path)
    path.unlink()
    resumed.append({"step": 2, "loss": 1.0})
    resumed.append({"step": 2, "evalLoss": 1.5})
    path.unlink()

    assert resumed.evaluations() == [(1, 2.5), (2, 1.5)]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(MemoryError(), FailureClass.OUT_OF_MEMORY, id="Python's"),
        pytest.param(
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
            FailureClass.OUT_OF_MEMORY,
            id="torch's on a CPU",
        ),
        pytest.param(RuntimeError("CUDA out of memory. Tried to allocate"), FailureClass.OUT_OF_MEMORY_GPU, id="CUDA"),
        pytest.param(RuntimeError("shapes do not match"), None, id="something else"),
    ],
)
def test_memory_failure(error: Exception, expected: FailureClass | None):
    """P26: memory that ran out is told apart by where."""
    assert expected is memory_failure(error)
