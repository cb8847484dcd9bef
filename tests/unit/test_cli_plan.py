"""`tunesmith plan` counts the rows that lie here, and says what is left of a job and not what it was."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from support.tiny_sources import ROWS, write_sources
from tunesmith.cli.app import app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model and 60 rows."""
    return write_sources(tmp_path)


def estimates(folder: Path, source: str = "file://rows.jsonl", **training: Any) -> dict[str, Any]:
    """What plan estimates for a job with these fields of spec.training."""
    spec = {"model": {"source": "file://model"}, "datasets": [{"source": source}], "training": training}
    job = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "j"}, "spec": spec}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    ran = CliRunner().invoke(
        app, ["plan", str(folder / "job.yaml"), "--json"], env={"TUNESMITH_CACHE": str(folder / "cache")}
    )
    assert ran.exit_code == 0, ran.exception
    return dict(json.loads(ran.stdout)["estimates"])


def test_steps_are_as_long_as_the_rows_that_lie_here(folder: Path) -> None:
    """A row of 60 bytes is a dozen tokens, in a folder too; rows of another format are taken at their longest."""
    (folder / "rows").mkdir()
    (folder / "rows" / "train.jsonl").write_text(ROWS)
    (folder / "rows.json").write_text(json.dumps([json.loads(line) for line in ROWS.splitlines()]))
    steps = {"maxSteps": 12, "effectiveBatchSize": 10, "maxSequenceLength": 256}
    expected = int(12 * 10 * len(ROWS) / 60 / 5)

    assert estimates(folder, **steps)["trainTokens"] == expected
    assert estimates(folder, "file://rows", **steps)["trainTokens"] == expected
    assert estimates(folder, "file://rows.json", **steps)["trainTokens"] == 12 * 10 * 256


def test_sources_on_this_machine_are_not_downloaded(folder: Path) -> None:
    assert estimates(folder)["downloadBytes"] == 0
