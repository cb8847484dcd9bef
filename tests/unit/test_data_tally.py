"""Rows that are broken alike are told in one sentence, with how many they are."""

import pytest

from tunesmith_api.failures import StageFailure
from tunesmith_trainer.data.invalid import refuse_invalid
from tunesmith_trainer.data.rows import Place, Problem
from tunesmith_trainer.data.tally import KEPT_PROBLEMS, Tally


def _tally(*problems: Problem, rows: int) -> Tally:
    tally = Tally()
    for _ in range(rows):
        tally.see(0)
    for problem in problems:
        tally.refuse(0, problem)
    return tally


def _told(tally: Tally) -> list[str]:
    return [kind.told(tally.rows[kind.dataset]) for kind in tally.alike]


def test_reasons_that_differ_in_a_number_are_one_kind_but_columns_are_not() -> None:
    """A byte's or a turn's number tells nothing about many rows; a column's name does."""
    bytes_ = [Problem(Place("a.jsonl", n), f"is not UTF-8 (byte {n} of the line)") for n in (1, 2, 3, 4)]
    columns = [Problem(Place("a.jsonl", 5), "has no column '1'"), Problem(Place("a.jsonl", 6), "has no column '2'")]

    assert _told(_tally(*bytes_, *columns, rows=9)) == [
        "a.jsonl: 4 of 9 rows: is not UTF-8 (byte … of the line) (lines 1, 2, 3, ...)",
        "a.jsonl, line 5: has no column '1'",
        "a.jsonl, line 6: has no column '2'",
    ]


def test_rows_of_several_files_are_told_with_them() -> None:
    """Each place has its own file then."""
    tally = _tally(Problem(Place("a.json", 1, "row"), "x 1"), Problem(Place("b.jsonl", 7), "x 1"), rows=2)

    assert _told(tally) == ["2 of 2 rows: x 1 (a.json, row 1; b.jsonl, line 7)"]


def test_the_cure_of_all_rows_is_none_for_some() -> None:
    """A column that some rows have is no matter of the settings."""
    problem = Problem(Place("a.jsonl", 1), "has no column 'a'", "Say which.")

    assert [_tally(problem, rows=rows).alike[0].hint(rows) for rows in (1, 2)] == [
        "Say which.",
        "Correct the named rows, or set spec.onInvalidRows: Drop.",
    ]


def test_no_broken_row_is_left_out_of_the_count() -> None:
    """However many things are wrong: what is not named is counted."""
    tally = _tally(*(Problem(Place("a.jsonl", n), f"reason{n}") for n in range(300)), rows=300)

    assert len(tally.alike) == len(tally.problems) == KEPT_PROBLEMS
    with pytest.raises(StageFailure, match=r"^300 of 300 rows .*\(and 295 more\)$") as caught:
        refuse_invalid(tally)
    assert caught.value.hint == "Correct the named rows, or set spec.onInvalidRows: Drop."
