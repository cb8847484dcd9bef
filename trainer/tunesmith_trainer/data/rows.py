"""What the modules of this package hand each other: a row as it was read, and what is wrong with one."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# The longest row that is read: 8 MiB are some two million tokens, more than any context (P6), and bound the memory
# that one hostile row can take.
MAX_ROW_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands: the file's name, what its format counts (``line`` or ``row``) and the number from 1."""

    file: str
    number: int
    unit: str = "line"

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row as read: its columns by name."""

    place: Place
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """One row that cannot be used, and why; the sentence quotes no content of the row.

    `cure` is what helps where all rows of a dataset are broken so; "": nothing but to correct them.
    """

    place: Place
    reason: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class RowError(Exception):
    """A row cannot be used; the message says why, without its place and without its content."""


class ColumnAbsent(RowError):
    """A row has not a column that the settings ask for."""


class Container(StrEnum):
    """How a file holds its rows."""

    JSONL = "JSONL"
    JSON = "JSON"
    CSV = "CSV"
    PARQUET = "Parquet"
