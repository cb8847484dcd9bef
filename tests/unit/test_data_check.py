"""`python -m tunesmith_trainer.data.check`, which `tunesmith validate` starts: what it prints and how it ends."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.preparing import chats, numbered_datasets, prepare_settings, write_rows


def check(folder: Path, datasets: int = 1, *, without: tuple[str, ...] = (), **changes: Any) -> tuple[int, Any]:
    """Its exit code and what it prints, in a process that cannot import the packages of `without`."""
    settings = folder / "settings.json"
    told = prepare_settings(datasets=numbered_datasets(datasets), **changes)
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
    assert [problem.split(":")[0] for problem in found["problems"]] == ["first.jsonl, line 41", "b.jsonl, line 1"]
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
    assert "'antwort', 'frage'" in found["problems"][0]
    assert "datasets[].columns" in found["problems"][0]
