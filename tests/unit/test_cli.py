"""What the command line says of itself."""

import json
import os
import re
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.cli import called
from tunesmith.cli.app import app


def test_the_version_is_told() -> None:
    """Without a command, and as one line."""
    ran = CliRunner().invoke(app, ["--version"])

    assert (ran.exit_code, ran.stdout) == (0, f"tunesmith {version('tunesmith')}\n")


def finished(folder: Path, *prompts: str) -> Path:
    """The output folder of a run that held these prompts out; the report has no figures."""
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps({"verdict": "Passed", "base": {"name": "m"}, "files": []}))
    rows = [{"id": prompt, "prompt": prompt, "tuned": {"text": f"answer to {prompt}"}} for prompt in prompts]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_compare_is_json_for_a_program(tmp_path: Path) -> None:
    """Both reports as they are, and the answers to the prompts that both runs held out."""
    one, two = finished(tmp_path / "one", "a", "b"), finished(tmp_path / "two", "b", "c")
    told = json.loads(called("compare", one, two, "--json").stdout)

    assert told["reports"] == [json.loads((folder / "report.json").read_text()) for folder in (one, two)]
    assert told["answers"] == [{"prompt": "b", "first": "answer to b", "second": "answer to b"}]


@pytest.mark.parametrize("command", [command.name for command in app.registered_commands])
def test_every_command_has_help_with_an_example(command: str) -> None:
    """Of its own, ready to be copied."""
    helped = called(command, "--help")

    assert helped.code == 0
    assert re.search(rf"Example: tunesmith {command}\b", helped.stdout), helped.stdout


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_dry_sweep_names_what_would_go_and_removes_nothing(tmp_path: Path, form: tuple[str, ...]) -> None:
    """In the store and in the cache; without --dry-run the same goes."""
    lost = tmp_path / "store" / "default" / "attempts" / "of-a-killed-stage" / "model.gguf"
    left = tmp_path / "cache" / "scratch" / "of-a-killed-run" / "file"
    then = time.time() - 40 * 86_400
    for file in (lost, left):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"GGUF")
        os.utime(file, (then, then))
        os.utime(file.parent, (then, then))
    sweep = ("gc", "--store", tmp_path / "store", *form)
    cache = {"TUNESMITH_CACHE": str(tmp_path / "cache")}
    would = called(*sweep, "--dry-run", **cache)

    assert would.code == 0, would.stderr
    assert lost.exists()
    assert left.exists()
    did = called(*sweep, **cache)
    assert not lost.exists()
    assert not left.exists()
    for said in (would.stdout, did.stdout):
        assert "attempts/of-a-killed-stage/model.gguf" in said
        assert "scratch/of-a-killed-run" in said
    if form:
        assert json.loads(would.stdout) | {"dryRun": False} == json.loads(did.stdout)
    else:
        assert would.stdout.replace("would be removed", "removed") == did.stdout


def test_a_store_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Its name may be misspelt; a new one has nothing to sweep, and that is no error."""
    swept = called("gc", "--store", tmp_path / "sotre", TUNESMITH_CACHE=str(tmp_path / "cache"))

    assert swept.code == 0
    assert f"There is no store {tmp_path}/sotre yet." in swept.stdout
    (tmp_path / "sotre").mkdir()
    assert "no store" not in called("gc", "--store", tmp_path / "sotre", TUNESMITH_CACHE=str(tmp_path / "cache")).stdout


@pytest.mark.parametrize(("other", "said"), [("second", True), ("first", False)])
def test_runs_that_share_no_prompts_are_told_so(tmp_path: Path, other: str, said: bool) -> None:
    """Figures of different texts stand side by side as if they could be compared."""
    folders = finished(tmp_path / "one", "first"), finished(tmp_path / "two", other)
    ran = CliRunner().invoke(app, ["compare", *map(str, folders)])

    assert ran.exit_code == 0, ran.exception
    assert ("The two runs share no held-out prompts" in ran.stdout) is said
    assert ("answer to first" in ran.stdout) is not said


def test_a_number_of_answers_is_not_negative(tmp_path: Path) -> None:
    """It would mean all but the last of them."""
    folder = finished(tmp_path / "one", "first")
    ran = called("compare", folder, folder, "--answers", "-1")

    assert ran.code == 2
    assert "'--answers'" in ran.stderr
    assert "answer to first" not in called("compare", folder, folder, "--answers", "0").stdout


def test_in_a_file_answers_stand_one_under_the_other(tmp_path: Path) -> None:
    """Each with its run: side by side a long one would fill every line of the other with spaces."""
    first, second = (finished(tmp_path / name, "x" * 3000) for name in ("one", "two"))
    ran = called("compare", first, second)

    answers = [line for line in ran.stdout.splitlines() if "answer to" in line]
    assert [line.partition(": ")[0] for line in answers] == [str(first), str(second)]
    assert not [line for line in ran.stdout.splitlines() if line.endswith(" ") or "   answer to" in line]
