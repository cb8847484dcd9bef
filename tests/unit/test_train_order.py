"""Which rows make which optimizer step."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_trainer.engines.order import RowOrder, epoch_order, steps_per_epoch, total_steps

LENGTHS = st.lists(st.integers(1, 2000), min_size=1, max_size=300)


@given(LENGTHS, st.integers(1, 40), st.integers(0, 2**31 - 1), st.integers(0, 5))
def test_an_epoch_sees_every_row_once(lengths: list[int], effective: int, seed: int, epoch: int):
    """No row is left out or seen twice, and the same call gives the same order."""
    order = epoch_order(lengths, effective, seed, epoch)

    assert list(range(len(lengths))) == sorted(order)
    assert order == epoch_order(lengths, effective, seed, epoch)


@given(st.lists(st.integers(1, 2000), min_size=8, max_size=300), st.integers(1, 8), st.integers(0, 1000))
def test_the_first_step_holds_the_longest_rows(lengths: list[int], effective: int, seed: int):
    """A batch that does not fit into memory fails in the first step."""
    order = epoch_order(lengths, effective, seed, 0)
    full = len(lengths) // effective
    sums = [sum(lengths[row] for row in order[start * effective : (start + 1) * effective]) for start in range(full)]

    assert max(sums) == sums[0]


def test_rows_of_one_step_have_similar_lengths():
    """Sorting within windows leaves little to pad: under a tenth of what random batches need."""
    lengths = [(index * 7919) % 500 + 10 for index in range(512)]

    def padding(order: list[int]) -> int:
        batches = [order[start : start + 4] for start in range(0, len(order), 4)]
        return sum(max(lengths[row] for row in batch) * len(batch) for batch in batches) - sum(lengths)

    assert padding(epoch_order(lengths, 16, 42, 1)) < padding(list(range(512))) / 10


def test_epochs_and_seeds_differ():
    """Every epoch and every seed has an order of its own."""
    lengths = [10] * 64
    orders = {tuple(epoch_order(lengths, 4, seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}

    assert len(orders) == 4


@pytest.mark.parametrize(
    ("rows", "effective", "epochs", "max_steps", "expected"),
    [
        pytest.param(64, 16, 3.0, None, 12, id="whole epochs"),
        pytest.param(65, 16, 1.0, None, 5, id="a last smaller batch is a step"),
        pytest.param(64, 16, 0.3, None, 2, id="part of an epoch is rounded up"),
        pytest.param(64, 16, 3.0, 7, 7, id="maxSteps takes precedence"),
    ],
)
def test_total_steps(rows: int, effective: int, epochs: float, max_steps: int | None, expected: int):
    """Steps follow from rows, batch and epochs, or are said."""
    assert expected == total_steps(rows, effective, epochs, max_steps)


@given(LENGTHS, st.integers(1, 40), st.integers(1, 50))
def test_tokens_by_step_add_up_to_the_epoch(lengths: list[int], effective: int, steps: int):
    """What the log calls a step's tokens are those of the rows in it."""
    order = RowOrder(lengths, effective, 42)
    per_epoch = steps_per_epoch(len(lengths), effective)

    assert sum(lengths) == sum(order.tokens_by_step(per_epoch))
    assert steps == len(order.tokens_by_step(steps))
    assert math.ceil(len(lengths) / effective) == per_epoch
