"""`python -m tunesmith_trainer.data.check`, which `tunesmith validate` starts: what it prints and how it ends."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.preparing import chats, numbered_datasets, prepare_settings, write_rows


def check(
    folder: Path,
    datasets: int = 1,
    *,
    without: tuple[str, ...] = (),
    columns: dict[str, str] | None = None,
    **changes: Any,
) -> tuple[int, Any]:
    """Its exit code and what it prints, in a process that cannot import the packages of `without`."""
    settings = folder / "settings.json"
    sets = numbered_datasets(datasets) if columns is None else ({"digest": "d", "columns": columns},)
    told = prepare_settings(datasets=sets, **changes)
    settings.write_text(told.model_dump_json(by_alias=True, exclude_none=True))
    absent = "".join(f"sys.modules[{name!r}] = None; " for name in without)
    program = f"import sys; {absent}import runpy; runpy.run_module('tunesmith_trainer.data.check', run_name='__main__')"
    command = [sys.executable, "-c", program, str(folder / "sources"), str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_a_good_dataset_is_counted_without_the_heavy_packages(tmp_path: Path) -> None:
    """Neither model nor torch is needed to look at rows."""
    write_rows(tmp_path / "sources" / "0", chats(60))
    code, found = check(tmp_path, without=("torch", "transformers", "tokenizers", "datasets"))

    assert code == 0
    assert found["problems"] == []
    assert found["formats"] == ["Messages"]
    assert found["rows"]["read"] == found["rows"]["train"] + found["rows"]["eval"] + found["rows"]["gate"] == 60


def test_every_broken_row_of_every_dataset_is_listed(tmp_path: Path) -> None:
    """With file and line; the row's own words, which may be secret, are not repeated."""
    write_rows(tmp_path / "sources" / "0", [*chats(40), '{"broken-secret'], "first.jsonl")
    write_rows(
        tmp_path / "sources" / "1", [{"messages": [{"role": "robot", "content": "secret"}]}, *chats(9, 50)], "b.jsonl"
    )
    code, found = check(tmp_path, datasets=2)

    assert code == 1
    assert [each["what"].split(":")[0] for each in found["problems"]] == ["first.jsonl, line 41", "b.jsonl, line 1"]
    assert [each["dataset"] for each in found["problems"]] == [0, 1]
    assert "secret" not in json.dumps(found)


def test_broken_rows_that_may_be_dropped_are_counted_alone(tmp_path: Path) -> None:
    """onInvalidRows: Drop."""
    write_rows(tmp_path / "sources" / "0", [*chats(60), "{broken"])
    code, found = check(tmp_path, on_invalid_rows="Drop")

    assert (code, found["problems"]) == (0, [])
    assert found["rows"]["invalid"] == 1


def test_columns_that_nobody_knows_are_named(tmp_path: Path) -> None:
    """One sentence with what was seen and what would help."""
    write_rows(tmp_path / "sources" / "0", [{"frage": "a", "antwort": "b"}])
    code, found = check(tmp_path)

    assert code == 1
    assert "'antwort', 'frage'" in found["problems"][0]["what"]
    assert "datasets[].columns" in found["problems"][0]["right"]


def test_rows_that_are_broken_alike_are_one_problem_with_their_number(tmp_path: Path) -> None:
    """Not one line each, and none is left out of the count."""
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": ""}]
    write_rows(tmp_path / "sources" / "0", [*chats(40), *({"messages": turns[: 1 + n % 2]} for n in range(500))])
    code, found = check(tmp_path)

    assert code == 1
    assert [each["what"] for each in found["problems"]] == [
        "rows.jsonl: 250 of 540 rows: does not end with an answer of the assistant (lines 41, 43, 45, ...)",
        "rows.jsonl: 250 of 540 rows: turn 2 (assistant) is empty (lines 42, 44, 46, ...)",
    ]
    assert {each["right"] for each in found["problems"]} == {"Correct the named rows, or set spec.onInvalidRows: Drop."}


def test_where_all_rows_lack_a_column_those_that_are_there_are_named(tmp_path: Path) -> None:
    """The settings are wrong then, not the rows; that too few rows are left is no second problem."""
    write_rows(tmp_path / "sources" / "0", [{"q": f"secret {n}", "a": "b"} for n in range(40)])
    columns = {"prompt": "{{ question }}", "completion": "a"}
    code, found = check(tmp_path, columns=columns)

    assert code == 1
    (only,) = found["problems"]
    assert only["what"] == (
        "rows.jsonl: 40 of 40 rows: does not fit the Jinja text of columns: 'question' is undefined"
        " (lines 1, 2, 3, ...)"
    )
    assert only["right"].startswith("The columns are: 'a', 'q'. Say which column is what with datasets")
    assert "secret" not in json.dumps(found)


def test_too_few_rows_are_said_where_corrected_ones_would_be_too_few_as_well(tmp_path: Path) -> None:
    """Each problem with its own class."""
    write_rows(tmp_path / "sources" / "0", [*chats(5), "{broken"])
    _, found = check(tmp_path)

    assert [each["class"] for each in found["problems"]] == ["DatasetInvalid", "DatasetTooSmall"]


def test_many_rows_of_few_prompts_are_too_few_whatever_is_broken_beside_them(tmp_path: Path) -> None:
    """One broken row is not what makes the difference."""
    rows = [{"prompt": f"q{n % 5}", "completion": f"a{n}"} for n in range(60)]
    write_rows(tmp_path / "sources" / "0", [*rows, "{broken"])
    _, found = check(tmp_path)

    assert [each["class"] for each in found["problems"]] == ["DatasetInvalid", "DatasetTooSmall"]
