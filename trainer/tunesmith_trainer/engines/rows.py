"""The prepared dataset's parquet files become rows of token ids and masks, checked once before anything is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.failures import FailureClass, StageFailure

_COLUMNS = ["input_ids", "mask"]


@dataclass(frozen=True, slots=True)
class Rows:
    """One part of the dataset: an Arrow table of `input_ids` and `mask`, and each row's counts of tokens."""

    table: Any
    lengths: tuple[int, ...]
    supervised: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.lengths)


def read_rows(path: Path, max_length: int, vocab_size: int) -> Rows:
    """Read one part; an absent file is an empty part.

    Raises DatasetInvalid for a row that is too long, has an id that the model does not know (P40), or supervises
    nothing: its loss is 0 or NaN and it changes nothing, silently (P5, P27).
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not path.is_file():
        return Rows(None, (), ())
    table = pq.read_table(path, columns=_COLUMNS).combine_chunks()
    ids, mask = table["input_ids"], table["mask"]
    lengths = pc.list_value_length(ids).to_pylist()
    if lengths != pc.list_value_length(mask).to_pylist():
        raise _invalid(path, "a row whose mask is not as long as its tokens")
    # The first token is never predicted, so its mask counts for nothing.
    supervised = [sum(row[1:]) for row in mask.to_pylist()]
    for index, (length, count) in enumerate(zip(lengths, supervised, strict=True)):
        if length > max_length:
            raise _invalid(path, f"row {index} of {length} tokens, and at most {max_length} are read")
        if count == 0:
            raise _invalid(path, f"row {index} in which no token is supervised")
    extremes = pc.min_max(pc.list_flatten(ids)).as_py() if lengths else {"min": 0, "max": 0}
    if extremes["min"] < 0 or extremes["max"] >= vocab_size:
        raise _invalid(path, f"token id {extremes['max']}, and the model knows ids up to {vocab_size - 1}")
    return Rows(table, tuple(lengths), tuple(supervised))


def _invalid(path: Path, what: str) -> StageFailure:
    return StageFailure(FailureClass.DATASET_INVALID, f"the prepared dataset's {path.name} has {what}")
