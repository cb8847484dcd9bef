"""docs/pitfalls.md stays true: its files exist, its tests name their pitfall, and no number is left unexplained."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "pitfalls.md"
ROW = re.compile(r"^\| P(\d+) \|[^|]+\|([^|]+)\|(?:([^|]+)\|)?$", re.MULTILINE)
NUMBER = re.compile(r"\bP([1-9]\d?)\b")
SOURCES = ("crds", "trainer", "tests")

ROWS = ROW.findall(PAGE.read_text(encoding="utf-8"))


def linked(cell: str) -> list[Path]:
    return [PAGE.parent / target for target in re.findall(r"\]\(([^)]+)\)", cell)]


@pytest.mark.parametrize(("number", "cured", "tested"), [pytest.param(*row, id=f"P{row[0]}") for row in ROWS if row[2]])
def test_a_pitfall_has_its_cure_and_tests_that_name_it(number: str, cured: str, tested: str) -> None:
    """A file that was moved, or a test that was taken away, is missed here."""
    assert linked(cured)
    assert linked(tested)
    assert [path for path in (*linked(cured), *linked(tested)) if not path.is_file()] == []
    assert [path for path in linked(tested) if number not in NUMBER.findall(path.read_text(encoding="utf-8"))] == []


def test_every_number_is_explained_once() -> None:
    """Whoever meets one in a comment can look it up."""
    explained = [number for number, _, _ in ROWS]
    files = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")]
    named = {number for path in files for number in NUMBER.findall(path.read_text(encoding="utf-8"))}

    assert len(explained) == len(set(explained))
    assert named - set(explained) == set()
