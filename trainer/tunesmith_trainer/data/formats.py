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
from tunesmith_trainer.data.names import near, near_hint, quoted
from tunesmith_trainer.data.read import is_csv, is_table
from tunesmith_trainer.data.rows import Row

Read = Callable[[dict[str, Any]], Example]


def format_of(first: Row, settings: DatasetSettings) -> tuple[ChatFormat, Read]:
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
    named = {"prompt": columns.prompt, "completion": columns.completion, "system": columns.system}
    absent = absent_columns(columns, asked, first.columns)
    by_name = set(named.values()) & set(absent.values())
    # A column of the usual name may be in the other rows where each has names of its own.
    if by_name or (absent and (is_table(first.place.file) or near(absent.values(), first.columns))):
        why = "which columns names" if by_name else "and columns names no other for it"
        mapped_well = {role: name for role, name in named.items() if name and role not in absent}
        raise _no_fit(first, f"has no column {quoted(sorted(absent.values()))}, {why}", absent, mapped_well)
    found = ChatFormat.TEXT if asked is ChatFormat.TEXT else ChatFormat.PROMPT_COMPLETION
    return found, lambda row: understand(mapped(row), found)


def columns_hint(row: Row) -> str:
    """What helps where all rows lack a column that is asked for."""
    return f"The columns are: {quoted(sorted(row.columns))}. {_mapping_hint(row)}"


def _mapping_hint(row: Row) -> str:
    hint = "Say which column is what with datasets[].columns."
    return f"{hint} The first line of a CSV is taken as the names of its columns." if is_csv(row.place.file) else hint


def _no_fit(first: Row, what: str, wanted: Mapping[str, str], mapped: Mapping[str, str] | None = None) -> StageFailure:
    """`wanted` are names of columns by what they are wanted for, `mapped` those that are there."""
    hint = near_hint(wanted, first.columns, mapped)
    if not hint:
        hint = f"{_mapping_hint(first)} Formats are found by their columns ({EXPECTED})."
    elif len(near(wanted.values(), first.columns)) < len(wanted):
        hint = f"{hint} {_mapping_hint(first)}"
    return StageFailure(
        FailureClass.DATASET_INVALID,
        f"{first.place.file} {what}; its columns are: {quoted(sorted(first.columns))}",
        hint=hint,
    )
