"""What the command line says of itself."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

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


@pytest.mark.parametrize(("other", "said"), [("second", True), ("first", False)])
def test_runs_that_share_no_prompts_are_told_so(tmp_path: Path, other: str, said: bool) -> None:
    """Figures of different texts stand side by side as if they could be compared."""
    folders = finished(tmp_path / "one", "first"), finished(tmp_path / "two", other)
    ran = CliRunner().invoke(app, ["compare", *map(str, folders)])

    assert ran.exit_code == 0, ran.exception
    assert ("The two runs share no held-out prompts" in ran.stdout) is said
    assert ("answer to first" in ran.stdout) is not said
