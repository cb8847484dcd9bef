"""Answers of models hold whatever people write: a line of them ends where JSON says it does."""

from pathlib import Path

import pytest

from tunesmith.cli.inspect import read_answers
from tunesmith.json_lines import read_lines, write_lines

# Ends of a line for str.splitlines, and plain characters of a string for JSON.
SEPARATORS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\n", "\r\n"]


@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
def test_what_is_written_is_read_again(tmp_path: Path, separator: str) -> None:
    """Publish and compare read what quantize and evaluate have written."""
    rows = [{"id": "a", "text": f"one{separator}two"}, {"id": "b", "text": separator}]
    write_lines(tmp_path / "answers.jsonl", rows)

    assert read_lines(tmp_path / "answers.jsonl") == rows
    assert read_answers(tmp_path) == rows


def test_what_json_has_no_word_for_is_refused(tmp_path: Path) -> None:
    """A figure that is no number reaches nobody."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_lines(tmp_path / "figures.jsonl", [{"loss": float("nan")}])
