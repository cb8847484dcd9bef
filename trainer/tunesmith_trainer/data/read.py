"""Source files in, rows out, one at a time: JSONL, JSON, CSV and Parquet, told apart by content and then by name.

What makes one row unreadable comes out as a `Problem` in its place; what makes a whole file unreadable is raised as
DatasetInvalid. At most one row and one buffer are in memory (Parquet: one batch).
"""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.data.json_array import json_elements
from tunesmith_trainer.data.names import quoted
from tunesmith_trainer.data.rows import MAX_ROW_BYTES, Container, Place, Problem, Row

READABLE = "JSONL, JSON (a list, or an object with one list), CSV and Parquet"
TOO_LARGE = f"longer than {MAX_ROW_BYTES // 2**20} MiB"
# Magic numbers: Apache Parquet's file format, RFC 1952 (gzip), RFC 8878 (zstd), the Unicode Standard 23.8 (UTF-16).
_PARQUET = b"PAR1"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
# Before Office 2007: [MS-CFB] 2.2, the container of .xls.
_OLD_OFFICE = b"\xd0\xcf\x11\xe0"
_SPREADSHEETS = frozenset({".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"})
# Names of a zip's entries are never compressed: ISO/IEC 29500 (a workbook), OpenDocument 1.3, part 2, 3.3 (mimetype).
_SHEET_MARKS = (b"xl/workbook", b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
_BY_NAME = {
    ".jsonl": Container.JSONL,
    ".ndjson": Container.JSONL,
    ".json": Container.JSON,
    ".csv": Container.CSV,
    ".tsv": Container.CSV,
    ".parquet": Container.PARQUET,
}
# As fast as 1,024, with a sixteenth of the rows in memory (measured on 100,000 conversations).
_PARQUET_BATCH_ROWS = 64
# How far behind the first line is looked for a second one.
_LOOK_BYTES = 65_536


def dataset_files(folder: Path) -> list[Path]:
    """The files of a dataset's folder that hold rows, sorted by path; hidden files and other names are passed over.

    A single file is taken whatever it is called.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if len(files) == 1:
        return files
    return [path for path in files if path.suffix.lower() in _BY_NAME and not path.name.startswith(".")]


def read_rows(files: Iterable[Path]) -> Iterator[Row | Problem]:
    """Every row of the files in their order."""
    for path in files:
        match container_of(path):
            case Container.JSONL:
                yield from _jsonl(path)
            case Container.JSON:
                yield from _json(path)
            case Container.CSV:
                yield from _csv(path)
            case Container.PARQUET:
                yield from _parquet(path)


def container_of(path: Path) -> Container:
    """How the file holds its rows; raises DatasetInvalid for one that is empty or of no kind that can be read."""
    with path.open("rb") as file:
        head = file.read(4)
        if head == _PARQUET:
            return Container.PARQUET
        if _is_spreadsheet(path, head, file):
            raise _unreadable(path, "is a spreadsheet: save the sheet with the rows as CSV (Excel: 'CSV UTF-8')")
        for magic, name in _COMPRESSED.items():
            if head.startswith(magic):
                raise _unreadable(path, f"is compressed with {name}: unpack it first")
        if head.startswith(_UTF16):
            raise _unreadable(path, "is UTF-16: save it as UTF-8")
        file.seek(len(_BOM) if head.startswith(_BOM) else 0)
        line = _first_line(file)
        only = not file.read(_LOOK_BYTES).strip()
    if not line:
        raise _unreadable(path, "is empty")
    named = _BY_NAME.get(path.suffix.lower())
    if named in (Container.CSV, Container.PARQUET) or line[:1] not in (b"[", b"{"):
        return _named_or_refused(path, named)
    return Container.JSON if line[:1] == b"[" else _lines_or_object(line, only, named)


def is_csv(name: str) -> bool:
    """Whether a file of rows is CSV, which its name alone tells."""
    return _BY_NAME.get(Path(name).suffix.lower()) is Container.CSV


def is_table(name: str) -> bool:
    """Whether all rows of a file have the same columns, by its name."""
    return _BY_NAME.get(Path(name).suffix.lower()) in (Container.CSV, Container.PARQUET)


def _is_spreadsheet(path: Path, head: bytes, file: BinaryIO) -> bool:
    """By the name or, in a zip's first and last bytes, by the entries that only a spreadsheet has."""
    if not head.startswith((b"PK\x03\x04", _OLD_OFFICE)):
        return False
    if path.suffix.lower() in _SPREADSHEETS:
        return True
    file.seek(0)
    seen = file.read(_LOOK_BYTES)
    file.seek(-min(_LOOK_BYTES, path.stat().st_size), os.SEEK_END)
    seen += file.read(_LOOK_BYTES)
    return any(mark in seen for mark in _SHEET_MARKS)


def _first_line(file: BinaryIO) -> bytes:
    while line := file.readline(MAX_ROW_BYTES):
        if stripped := line.strip():
            return stripped
    return b""


def _named_or_refused(path: Path, named: Container | None) -> Container:
    if named is None:
        raise _unreadable(path, "is of no kind that can be read")
    if named is Container.PARQUET:
        raise _unreadable(path, "is called Parquet but does not begin as a Parquet file does")
    return named


def _lines_or_object(line: bytes, only: bool, named: Container | None) -> Container:
    """A file that begins with ``{``: rows in lines, or one object around them."""
    try:
        first = json.loads(line)
    except (ValueError, RecursionError):
        # A broken first row is found, with its line, by reading lines; a pretty-printed object does not end its line.
        return Container.JSON if named is Container.JSON or line == b"{" else Container.JSONL
    lists = [value for value in first.values() if isinstance(value, list)]
    wraps = only and len(lists) == 1 and named is not Container.JSONL and "messages" not in first
    return Container.JSON if wraps and "conversations" not in first else Container.JSONL


def _unreadable(path: Path, what: str, hint: str = f"Readable are {READABLE}.") -> StageFailure:
    return StageFailure(FailureClass.DATASET_INVALID, f"the dataset's file {path.name} {what}", hint)


def _jsonl(path: Path) -> Iterator[Row | Problem]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            place = Place(path.name, number)
            if len(line) > MAX_ROW_BYTES:
                yield Problem(place, TOO_LARGE)
                _skip_line(file, line)
                continue
            if number == 1:
                line = line.removeprefix(_BOM)
            if stripped := line.strip():
                yield _row(place, stripped)


def _skip_line(file: BinaryIO, read: bytes) -> None:
    while read and not read.endswith(b"\n"):
        read = file.readline(MAX_ROW_BYTES)


def _row(place: Place, line: bytes) -> Row | Problem:
    try:
        value = json.loads(line)
    except UnicodeDecodeError as error:
        return Problem(place, f"is not UTF-8 (byte {error.start + 1} of the line)")
    except json.JSONDecodeError as error:
        return Problem(place, f"is not JSON: {error.msg} at column {error.colno}")
    except RecursionError:
        return Problem(place, "is nested too deeply")
    return _object(place, value)


def _object(place: Place, value: Any) -> Row | Problem:
    if not isinstance(value, dict):
        return Problem(place, f"is no JSON object but {_kind(value)}")
    return Row(place, value)


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _json(path: Path) -> Iterator[Row | Problem]:
    with path.open("rb") as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig")
        try:
            for number, value in enumerate(json_elements(text), start=1):
                yield _object(Place(path.name, number, "row"), value)
        except (ValueError, RecursionError) as error:
            raise _unreadable(path, f"is not the JSON that is expected: {error}") from error


def _csv(path: Path) -> Iterator[Row | Problem]:
    # A byte that is not UTF-8 becomes half of a surrogate pair, so that the line that it stands on can be told.
    with path.open("r", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(file)
        # The limit is the process's own; the module's default of 128 KiB would refuse long answers.
        csv.field_size_limit(MAX_ROW_BYTES)
        reader = csv.reader(_utf8_lines(path, file), delimiter=delimiter, strict=True)
        try:
            header = next(reader)
            if twice := [name for name, count in Counter(header).items() if count > 1]:
                what = f"has two columns of one name: {quoted(twice)}"
                raise _unreadable(path, what, "The first line is taken as the names of the columns: make them differ.")
            line = reader.line_num + 1
            for values in reader:
                if values:
                    yield _csv_row(Place(path.name, line), header, values)
                line = reader.line_num + 1
        except csv.Error as error:
            # What follows a broken quote cannot be told apart into rows any more.
            raise _unreadable(path, f"cannot be read after line {reader.line_num}: {error}") from error


def _utf8_lines(path: Path, lines: Iterable[str]) -> Iterator[str]:
    """The lines of a CSV; raises DatasetInvalid at the first that is not UTF-8.

    What saves one line in another encoding saves all so: with onInvalidRows: Drop the rows without an accent would be
    left, and nobody told.
    """
    for number, line in enumerate(lines, start=1):
        if not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError as error:
                byte = len(line[: error.start].encode()) + 1
                what = f"is not UTF-8: line {number}, byte {byte} of the line"
                raise _unreadable(path, what, "Save it as UTF-8 (Excel: 'CSV UTF-8').") from None
        yield line


def _delimiter(file: io.TextIOBase) -> str:
    header = file.readline(MAX_ROW_BYTES)
    file.seek(0)
    return max(",;\t", key=header.count)


def _csv_row(place: Place, header: list[str], values: list[str]) -> Row | Problem:
    if len(values) != len(header):
        return Problem(place, f"has {len(values)} fields, the header {len(header)}")
    return Row(place, dict(zip(header, values, strict=True)))


def _parquet(path: Path) -> Iterator[Row | Problem]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS):
            for columns in _batch_rows(batch):
                number += 1
                place = Place(path.name, number, "row")
                yield Problem(place, TOO_LARGE) if columns is None else Row(place, columns)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, f"is no readable Parquet file: {error}") from error


def _batch_rows(batch: Any) -> Iterator[dict[str, Any] | None]:
    """The rows of an Arrow record batch; None for one that is too large, which is never made into Python's objects."""
    if batch.nbytes <= MAX_ROW_BYTES:
        yield from batch.to_pylist()
        return
    for at in range(batch.num_rows):
        row = batch.slice(at, 1)
        yield None if row.nbytes > MAX_ROW_BYTES else row.to_pylist()[0]
