"""Files in, rows out: every container, told apart by content, with the place of everything that cannot be read."""

import csv
import json
import tracemalloc
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.data.read import container_of, dataset_files, read_rows
from tunesmith_trainer.data.rows import MAX_ROW_BYTES, Container, Problem, Row

ROWS = [{"text": "eins"}, {"text": "zwei\nZeilen, mit Komma und „Anführung“"}, {"text": "drei 🙂"}]


def _columns(path: Path) -> list[dict[str, object]]:
    rows = list(read_rows([path]))
    assert [row for row in rows if isinstance(row, Problem)] == []
    return [row.columns for row in rows if isinstance(row, Row)]


def _write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


JSONL = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)


@pytest.mark.parametrize(
    ("name", "text", "container"),
    [
        ("a.jsonl", JSONL, Container.JSONL),
        ("a.jsonl", "\ufeff" + JSONL + "\n", Container.JSONL),
        ("a.jsonl", JSONL.replace("\n", "\r\n\r\n"), Container.JSONL),
        ("a.txt", JSONL, Container.JSONL),
        ("a.json", JSONL, Container.JSONL),
        ("a.json", json.dumps(ROWS), Container.JSON),
        ("a.json", "\ufeff\n " + json.dumps(ROWS, indent=2), Container.JSON),
        ("a.json", json.dumps({"version": 1, "data": ROWS, "by": {"name": "x"}}), Container.JSON),
        ("a.json", json.dumps({"data": ROWS}, indent=2), Container.JSON),
        ("rows", json.dumps(ROWS, ensure_ascii=False), Container.JSON),
    ],
)
def test_json_in_every_form_gives_the_same_rows(tmp_path: Path, name: str, text: str, container: Container) -> None:
    """Lines, a list, an object around a list; with BOM, CRLF, empty lines or another name."""
    path = _write(tmp_path / name, text)

    assert container_of(path) is container
    assert _columns(path) == ROWS


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
def test_csv_keeps_quoted_line_ends_and_finds_its_delimiter(tmp_path: Path, name: str, delimiter: str) -> None:
    """A cell may hold line ends and delimiters."""
    path = tmp_path / name
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["text", "other"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows({**row, "other": "1"} for row in ROWS)

    assert [{**row, "other": "1"} for row in ROWS] == _columns(path)


def test_parquet_is_told_by_its_content(tmp_path: Path) -> None:
    """A Parquet file is read whatever it is called."""
    path = tmp_path / "rows.data"
    pq.write_table(pa.Table.from_pylist(ROWS), path)

    assert _columns(path) == ROWS


def test_a_csv_row_is_named_by_the_line_that_it_begins_on(tmp_path: Path) -> None:
    """After a cell of two lines the numbers still are those of an editor."""
    path = _write(tmp_path / "a.csv", 'a,b\n"one\ntwo",x\nonly\nlast,y\n')

    numbers = [row.place.number for row in read_rows([path])]
    assert numbers == [2, 4, 5]


def test_each_broken_line_is_a_problem_with_its_line_and_the_rest_is_read(tmp_path: Path) -> None:
    """One bad line costs one row."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": \n\n{"text": "\xff"}\n[1]\n' + b"[" * 100_000 + b'\n{"text": "z"}\n')

    rows = list(read_rows([path]))

    problems = {row.place.number: row.reason for row in rows if isinstance(row, Problem)}
    assert {2, 4, 5, 6} == set(problems)
    assert "not JSON" in problems[2]
    assert "not UTF-8" in problems[4]
    assert "a list" in problems[5]
    assert [row.place.number for row in rows if isinstance(row, Row)] == [1, 7]


def test_a_huge_row_is_refused_without_being_held_and_the_next_one_is_read(tmp_path: Path) -> None:
    """A row of many megabytes is a problem of its own line, and is never in memory as a whole."""
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(8):
            file.write(b"x" * MAX_ROW_BYTES)
        file.write(b'"}\n{"text": "after"}\n')

    tracemalloc.start()
    rows = list(read_rows([path]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert isinstance(rows[0], Problem)
    assert "8 MiB" in rows[0].reason
    assert isinstance(rows[1], Row)
    assert rows[1].place.number == 2
    assert peak < 5 * MAX_ROW_BYTES


def test_a_huge_row_of_parquet_is_refused_and_its_neighbours_are_read(tmp_path: Path) -> None:
    """The bound of a row holds in every container, for all of its columns together."""
    path = tmp_path / "a.parquet"
    half = "x" * (MAX_ROW_BYTES // 2 + 1)
    pq.write_table(pa.Table.from_pylist([{"a": "before", "b": ""}, {"a": half, "b": half}, {"a": half, "b": ""}]), path)

    rows = list(read_rows([path]))

    assert [isinstance(row, Problem) for row in rows] == [False, True, False]
    assert str(rows[1]) == "a.parquet, row 2: longer than 8 MiB"


def test_a_long_json_list_is_read_element_by_element(tmp_path: Path) -> None:
    """The memory that a list of rows takes does not grow with it."""
    path = tmp_path / "a.json"
    with path.open("w") as file:
        file.write('[{"text": "first"}')
        for _ in range(600):
            file.write(', {"text": "' + "y" * 100_000 + '"}')
        file.write("]")

    tracemalloc.start()
    count = sum(isinstance(row, Row) for row in read_rows([path]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert count == 601
    assert peak < 20_000_000


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n  \n", "is empty"),
        ("a.jsonl", b"\x1f\x8b\x08", "gzip"),
        ("a.jsonl", b"\x28\xb5\x2f\xfd123", "zstd"),
        ("a.jsonl", "hallo".encode("utf-16"), "UTF-16"),
        ("a.parquet", b"no parquet", "does not begin as a Parquet"),
        ("a.parquet", b"PAR1 but broken", "no readable Parquet"),
        ("a.txt", b"just some words", "no kind that can be read"),
        ("a.json", b'[{"text": "a"}, {"text": ', "not the JSON"),
        ("a.json", b'[{"text": "a"}] x', "follows the end"),
        ("a.json", b'{\n"a": 1, "b": {"c": []}}', "no list"),
        ("a.json", b'{\n"a": [], "b": [1]}', "more than one list"),
        ("a.json", b'[{"text": "\xff"}]', "not the JSON"),
        ("a.csv", b'a,b\n1,"2', "cannot be read after line"),
        ("a.csv", b"a,a\n1,2\n", "two columns of one name: 'a'$"),
        ("a.csv", b"a,b\nx,y\nx\xf6,y\n", "is not UTF-8: line 3, byte 2 of the line"),
        ("a.csv", "\ufeffä,b\n".encode() + b"x,y\xe4\n", "is not UTF-8: line 2, byte 4 of the line"),
        ("a.csv", "ä,b\n".encode("latin-1"), "is not UTF-8: line 1, byte 1 of the line"),
        ("a.tsv", b"a\tb\n" + b"x\ty\n" * 5000 + b"x\t\xe4\n" + b"x\ty\n" * 5000, "not UTF-8: line 5002, byte 3"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_name_and_the_reason(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    """What breaks a whole file ends the reading with one clear failure."""
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(StageFailure, match=said) as caught:
        list(read_rows([path]))

    assert caught.value.failure is FailureClass.DATASET_INVALID
    assert name in caught.value.message


@pytest.mark.parametrize(
    ("name", "entries", "said"),
    [
        ("rows.xlsx", ("anything",), "is a spreadsheet"),
        ("rows.data", ("[Content_Types].xml", "xl/workbook.xml"), "is a spreadsheet"),
        ("rows.data", ("mimetype",), "is a spreadsheet"),
        ("rows.zip", ("rows.jsonl",), "compressed with zip: unpack it first"),
    ],
)
def test_a_spreadsheet_is_told_from_an_archive(tmp_path: Path, name: str, entries: tuple[str, ...], said: str) -> None:
    """Unpacking a spreadsheet would help nobody."""
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for entry in entries:
            archive.writestr(entry, "application/vnd.oasis.opendocument.spreadsheet" if entry == "mimetype" else "x")

    with pytest.raises(StageFailure, match=said) as caught:
        container_of(tmp_path / name)
    assert ("CSV UTF-8" in caught.value.message) == ("spreadsheet" in said)


def test_a_spreadsheet_of_old_is_told_by_its_name(tmp_path: Path) -> None:
    """Its container holds documents of other kinds too."""
    (tmp_path / "rows.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")

    with pytest.raises(StageFailure, match="is a spreadsheet"):
        container_of(tmp_path / "rows.xls")


def test_how_a_csv_of_another_encoding_is_saved_is_said(tmp_path: Path) -> None:
    """What a spreadsheet saves by itself is not UTF-8."""
    (tmp_path / "a.csv").write_bytes("prompt,completion\nWie?,Schön\n".encode("latin-1"))

    with pytest.raises(StageFailure) as caught:
        list(read_rows([tmp_path / "a.csv"]))

    assert "CSV UTF-8" in caught.value.hint


def test_only_files_that_hold_rows_are_read(tmp_path: Path) -> None:
    """A dataset's folder may have a readme; a single file may have any name."""
    (tmp_path / "README.md").write_text("words")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.jsonl").write_text("{}")
    (tmp_path / "a.csv").write_text("a\n")
    (tmp_path / ".hidden.jsonl").write_text("{}")

    assert [tmp_path / "a.csv", tmp_path / "sub" / "b.jsonl"] == dataset_files(tmp_path)
    assert dataset_files(tmp_path / "none") == []
