"""What is said under a report's table."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from support.cli import called
from tunesmith.cli.report import evaluation_table


def shown(folder: Path, verdict: str, *gates: tuple[str, str, float | None]) -> str:
    """What `show` says of a run with one file of these gates (name, verdict, value)."""
    judged = [{"name": name, "verdict": said, "value": value, "threshold": 0.1} for name, said, value in gates]
    file = {"name": "j-Q8_0.gguf", "type": "Q8_0", "bytes": 10**6, "figures": {}, "published": True}
    report = {"job": "j", "verdict": verdict, "files": [file | {"verdict": verdict, "gates": judged}]}
    (folder / "report.json").write_text(json.dumps(report))
    ran = called("show", folder)
    assert ran.code == 0, ran.stderr
    return ran.stdout


WINDOWS = "evaluation.chunks (beyond 40 only where the answers of the gate's rows are as long)"


@pytest.mark.parametrize(
    ("gates", "more"),
    [
        (["maxScoreDrop"], "evaluation.prompts (no more than are held out)"),
        (["maxLogPerplexityIncrease", "minSameTop"], WINDOWS),
        (
            ["maxKLDivergence", "maxLossIncrease"],
            f"{WINDOWS} and evaluation.prompts (no more than are held out)",
        ),
    ],
)
def test_inconclusive_is_explained_with_what_narrows_it(tmp_path: Path, gates: list[str], more: str) -> None:
    """Once for all files, by what the gates are measured on."""
    line = f"Inconclusive: the error bar spans the threshold; it fails nothing. More {more} narrow it."
    judged: Any = [(name, "Inconclusive", 0.05) for name in gates]

    assert shown(tmp_path, "Inconclusive", *judged).count(line) == 1


def test_what_was_not_measured_has_no_error_bar(tmp_path: Path) -> None:
    """Nor is anything said of what passed."""
    said = shown(tmp_path, "Inconclusive", ("maxScoreDrop", "Inconclusive", None))

    assert "Inconclusive: not measured: maxScoreDrop; it fails nothing." in said
    assert "error bar" not in said
    assert "Inconclusive" not in shown(tmp_path, "Passed", ("maxScoreDrop", "Passed", 0.0))


def test_the_widest_scores_fit_a_plain_terminal() -> None:
    """80 columns: with every figure at its longest nothing is cut."""
    score = {"metric": "ExactMatch", "n": 500, "value": 0.692, "low": 0.569, "high": 0.8}
    report = {"evaluation": {side: {"score": score, "loss": 2.185} for side in ("base", "tuned")}}
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    console.print(evaluation_table(report))

    printed = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert printed.count("69.2 % (56.9 % to 80.0 %)") == 2


def test_what_was_not_measured_leaves_no_empty_lines(tmp_path: Path) -> None:
    """Nothing was trained, and no answers were asked for."""
    said = shown(tmp_path, "Passed")

    assert "" not in said.rstrip("\n").splitlines()
