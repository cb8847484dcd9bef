"""A dataset's settings and its first row in, how its rows are understood out: decided once, for all of them."""

from collections.abc import Callable, Mapping
from typing import Any

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.settings import DatasetSettings
from tunesmith_api.sources import ChatFormat, Columns
from tunesmith_trainer.data.columns import absent_columns, mapping
from tunesmith_trainer.data.conversations import (
    EXPECTED,
    Example,
    detect,
    missing_columns,
    nearest,
    understand,
)
from tunesmith_trainer.data.names import near_hint, quoted
from tunesmith_trainer.data.read import is_csv
from tunesmith_trainer.data.rows import Row

Read = Callable[[dict[str, Any]], Example]


def reader(first: Row, settings: DatasetSettings) -> tuple[ChatFormat, Read]:
    """The format of a dataset and the function from a row's columns to what the row says.

    Raises DatasetInvalid where the first row has not the columns that settings or format ask for.
    """
    if settings.columns is not None:
        return _mapped(first, settings.columns, settings.format)
    present = sorted(first.columns)
    if settings.format is ChatFormat.AUTO:
        found = detect(present)
        if found is None:
            raise _no_fit(first, "is of no known format", {name: name for name in nearest(present)})
    else:
        found = settings.format
        if absent := missing_columns(found, present):
            what = f"has no column {quoted(absent)}, which the format {found} needs"
            raise _no_fit(first, what, {name: name for name in absent})
    return found, lambda columns: understand(columns, found)


def _mapped(first: Row, columns: Columns, asked: ChatFormat) -> tuple[ChatFormat, Read]:
    mapped = mapping(columns, asked)
    if absent := absent_columns(columns, asked, first.columns):
        named = {columns.prompt, columns.completion, columns.system}
        why = "which columns names" if named & set(absent.values()) else "and columns names no other for it"
        raise _no_fit(first, f"has no column {quoted(sorted(absent.values()))}, {why}", absent)
    found = ChatFormat.TEXT if asked is ChatFormat.TEXT else ChatFormat.PROMPT_COMPLETION
    return found, lambda row: understand(mapped(row), found)


def columns_hint(row: Row) -> str:
    """What helps where all rows lack a column that is asked for."""
    return f"The columns are: {quoted(sorted(row.columns))}. {_mapping_hint(row)}"


def _mapping_hint(row: Row) -> str:
    hint = "Say which column is what with datasets[].columns."
    return f"{hint} The first line of a CSV is taken as the names of its columns." if is_csv(row.place.file) else hint


def _no_fit(first: Row, what: str, wanted: Mapping[str, str]) -> StageFailure:
    """`wanted` are names of columns by what they are wanted for."""
    hint = near_hint(wanted, first.columns)
    return StageFailure(
        FailureClass.DATASET_INVALID,
        f"{first.place.file} {what}; its columns are: {quoted(sorted(first.columns))}",
        hint=hint or f"{_mapping_hint(first)} Formats are found by their columns ({EXPECTED}).",
    )
