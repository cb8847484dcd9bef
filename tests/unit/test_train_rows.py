"""The prepared rows are checked before a model is loaded."""

from pathlib import Path

import pytest

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.engines.rows import read_rows

pa = pytest.importorskip("pyarrow", reason="needs the trainer's packages")


def write(folder: Path, rows: list[tuple[list[int], list[int]]]) -> Path:
    import pyarrow.parquet as pq

    ids = pa.array([ids for ids, _ in rows], pa.list_(pa.int32()))
    mask = pa.array([mask for _, mask in rows], pa.list_(pa.uint8()))
    pq.write_table(pa.table({"input_ids": ids, "mask": mask}), folder / "train.parquet")
    return folder / "train.parquet"


def test_rows_know_their_lengths(tmp_path: Path):
    """The first token is never predicted, so its mask counts for nothing."""
    rows = read_rows(write(tmp_path, [([1, 2, 3], [1, 0, 1]), ([4, 5], [0, 1])]), 8, 10)

    assert (rows.lengths, rows.supervised) == ((3, 2), (1, 1))


def test_a_part_that_is_not_there_is_empty(tmp_path: Path):
    """A dataset may have no evaluation part."""
    assert len(read_rows(tmp_path / "eval.parquet", 8, 10)) == 0


@pytest.mark.parametrize(
    ("row", "what"),
    [
        pytest.param(([1] * 9, [1] * 9), "row 1 of 9 tokens", id="P5: too long"),
        pytest.param(([1, 2], [0, 0]), "row 1 in which no token is supervised", id="P27: nothing supervised"),
        pytest.param(([1, 2], [1, 0]), "row 1 in which no token is supervised", id="only the first token supervised"),
        pytest.param(([1, 10], [0, 1]), "token id 10", id="P40: unknown id"),
        pytest.param(([1, 2, 3], [0, 1]), "whose mask", id="mask of another length"),
    ],
)
def test_bad_rows_are_refused(tmp_path: Path, row: tuple[list[int], list[int]], what: str):
    """What would train nothing or the wrong thing, silently."""
    with pytest.raises(StageFailure, match=what) as found:
        read_rows(write(tmp_path, [([1, 2], [0, 1]), row]), 8, 10)

    assert FailureClass.DATASET_INVALID is found.value.failure
