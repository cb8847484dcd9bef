"""Which figures `compare` calls comparable, and which it does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.cli import called

RISES = "The rises of perplexity of the two runs cannot be compared: they are measured "
GENERAL = "The perplexities on general text of the two runs cannot be compared: they are measured "


def a_run(folder: Path, chunks: int = 40, length: int = 512, **dataset: Any) -> Path:
    """The output folder of a run that was measured on so many windows; more of its dataset's report."""
    folder.mkdir()
    figures = {"perplexityIncrease": {"value": 0.2, "error": 0.01}}
    windows = {"contextLength": length}
    report = {
        "verdict": "Passed",
        "base": {"name": "m"},
        "files": [{"type": "Q8_0", "bytes": 10**6, "figures": figures, "verdict": "Passed"}],
        "dataset": {"texts": {"gate": "ab", "forgetting": "cd"}} | dataset,
        "baseline": windows | {"chunks": chunks},
        "evaluation": {"forgetting": windows | {"chunks": min(12, chunks), "tuned": {"value": 20.0, "error": 1.0}}},
    }
    (folder / "report.json").write_text(json.dumps(report))
    return folder


@pytest.mark.parametrize(
    ("other", "rises", "general"),
    [
        pytest.param({}, None, None, id="the same"),
        pytest.param({"chunks": 32}, "on 40 and on 32 windows", None, id="fewer windows, general text as before"),
        pytest.param({"chunks": 8}, "on 40 and on 8 windows", "on 12 and on 8 windows", id="fewer windows of both"),
        pytest.param({"length": 256}, *["in windows of 512 and of 256 tokens"] * 2, id="shorter windows"),
        pytest.param({"texts": {"gate": "xy", "forgetting": "cd"}}, "on different texts", None, id="other rows"),
        pytest.param(
            {"chunks": 32, "texts": {"gate": "xy", "forgetting": "cd"}},
            "on 40 and on 32 windows and on different texts",
            None,
            id="both",
        ),
        pytest.param({"vocabulary": {"tokens": 2}}, *["with different tokenizers"] * 2, id="another tokenizer"),
        pytest.param({"texts": None}, None, None, id="a report that does not name its texts"),
    ],
)
def test_perplexities_of_other_windows_or_texts_are_told(
    tmp_path: Path, other: dict[str, Any], rises: str | None, general: str | None
) -> None:
    """P67: they stand side by side as if one were better; for a program too."""
    folders = (
        a_run(tmp_path / "one", vocabulary={"tokens": 1}),
        a_run(tmp_path / "two", **{"vocabulary": {"tokens": 1}} | other),
    )
    expected = {"perplexityIncrease": rises, "forgetting": general}
    said = called("compare", *folders).stdout.splitlines()
    told = json.loads(called("compare", *folders, "--json").stdout)["notComparable"]

    assert [line for line in said if line.startswith(RISES)] == ([] if rises is None else [f"{RISES}{rises}."])
    assert [line for line in said if line.startswith(GENERAL)] == ([] if general is None else [f"{GENERAL}{general}."])
    assert told == [{"figure": figure, "why": why} for figure, why in expected.items() if why is not None]
    assert any(line.startswith("Q8_0: perplexity rise") for line in said)


def test_a_run_without_these_figures_is_compared_in_silence(tmp_path: Path) -> None:
    """A dash stands in its column."""
    one, two = a_run(tmp_path / "one"), a_run(tmp_path / "two", texts={"gate": "xy", "forgetting": "xy"})
    report = json.loads((two / "report.json").read_text())
    (two / "report.json").write_text(json.dumps(report | {"baseline": {}, "evaluation": {}}))

    assert json.loads(called("compare", one, two, "--json").stdout)["notComparable"] == []
