"""A report as tables on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunesmith.figures import interval, loss, megabytes, metric_of, number, score, share, with_error

# Judged on windows of text; the others that have an error bar are judged on held-out prompts (tunesmith_api/gates.py).
_ON_WINDOWS = {"maxPerplexityIncrease", "maxLogPerplexityIncrease", "maxKLDivergence", "minSameTop"}
_WINDOWS = "evaluation.chunks (beyond 40 only where the answers of the gate's rows are as long)"
_PROMPTS = "evaluation.prompts (no more than are held out)"
_STYLES = {"Passed": "green", "Failed": "red", "Inconclusive": "yellow"}


def summary(report: Mapping[str, Any]) -> RenderableType:
    """Files with their figures and verdicts, and base against tuned."""
    said = [Text(line, style="yellow") for line in inconclusive(report)]
    parts = (files_table(report), *said, evaluation_table(report), _training_line(report))
    return Group(*(part for part in parts if part is not None))


def files_table(report: Mapping[str, Any]) -> Table:
    """One line per GGUF."""
    metric = metric_of(report)
    table = Table(box=None, pad_edge=False, title=f"{report['job']}: gates {report['verdict']}", title_justify="left")
    # Eight columns in the 80 of a plain terminal: files are named <job>-<type>.gguf, so the type says which.
    for name in ("type", "MB", "bits", "PPL rise", "KLD", "same top", metric, "gates"):
        table.add_column(name, justify="left" if name in ("type", "gates") else "right", no_wrap=name != "gates")
    for file in report["files"]:
        figures = file["figures"]
        table.add_row(
            file["type"],
            megabytes(file["bytes"]),
            number(figures.get("bitsPerWeight"), 2),
            with_error(figures.get("perplexityIncrease")),
            number((figures.get("klDivergence") or {}).get("mean"), 4),
            share((figures.get("sameTop") or {}).get("value")),
            score((figures.get("score") or {}).get("value"), metric),
            _verdict(file),
        )
    return table


def failed_gates(report: Mapping[str, Any]) -> list[str]:
    """A sentence for each file, and for the tuned model itself, that failed: its gates with value and threshold."""
    judged = [
        (file["type"], file["gates"], "failed" if file["published"] else "is withheld") for file in report["files"]
    ]
    judged.append(("the tuned model", report.get("gates") or [], "failed"))
    sentences = []
    for name, gates, what in judged:
        reasons = [
            f"{gate['name']} {_measured(gate)} against {gate['threshold']:g}"
            for gate in gates
            if gate["verdict"] == "Failed"
        ]
        if reasons:
            sentences.append(f"{name} {what}: {', '.join(reasons)}")
    return sentences


def inconclusive(report: Mapping[str, Any]) -> list[str]:
    """What it means that a file, or the tuned model itself, is Inconclusive, and what would change it."""
    judged = [file["gates"] for file in report["files"] if file["verdict"] == "Inconclusive"]
    gates = [
        gate for each in (*judged, report.get("gates") or []) for gate in each if gate["verdict"] == "Inconclusive"
    ]
    spanning = {gate["name"] for gate in gates if gate.get("value") is not None}
    absent = dict.fromkeys(gate["name"] for gate in gates if gate.get("value") is None)
    lines = []
    if spanning:
        more = " and ".join(
            dict.fromkeys(_PROMPTS if name not in _ON_WINDOWS else _WINDOWS for name in sorted(spanning))
        )
        lines.append(f"Inconclusive: the error bar spans the threshold; it fails nothing. More {more} narrow it.")
    if absent:
        lines.append(f"Inconclusive: not measured: {', '.join(absent)}; it fails nothing.")
    return lines


def _measured(gate: Mapping[str, Any]) -> str:
    """What failed without a value was infinite or no number at all (tunesmith_api/gates.py)."""
    return "no number" if gate.get("value") is None else number(gate["value"], 3)


def evaluation_table(report: Mapping[str, Any]) -> Table | None:
    """Base against tuned: score, loss, what was forgotten; None where the base was not measured."""
    evaluation = report.get("evaluation") or {}
    base, tuned = evaluation.get("base") or {}, evaluation.get("tuned") or {}
    if not base:
        return None
    metric = metric_of(report)
    table = Table(box=None, pad_edge=False)
    for name in ("", "base", "tuned"):
        table.add_column(name, justify="left" if not name else "right")
    if base.get("score"):
        # With both intervals it has to fit 80 columns.
        label = f"{metric} on {base['score'].get('n')} prompts"
        table.add_row(label, interval(base["score"]), interval(tuned.get("score")))
    if base.get("loss") is not None:
        table.add_row("loss on held-out answers", loss(base["loss"]), loss(tuned.get("loss")))
    forgetting = evaluation.get("forgetting") or {}
    if forgetting:
        table.add_row(
            "perplexity on general text", with_error(forgetting.get("base")), with_error(forgetting.get("tuned"))
        )
    return table


def _training_line(report: Mapping[str, Any]) -> Text | None:
    training = report.get("training") or {}
    if not training.get("steps"):
        return None
    return Text(
        f"Trained {training['steps']} steps with {training.get('engine')} ({training.get('method')}), "
        f"loss {number(training.get('trainLoss'), 3)}, held-out {number(training.get('evalLoss'), 3)}, "
        f"{number(training.get('tokensPerSecond'), 0)} tokens/s",
        style="dim",
    )


def _verdict(file: Mapping[str, Any]) -> Text:
    failed = [gate["name"] for gate in file["gates"] if gate["verdict"] != "Passed"]
    withheld = "" if file["published"] else ", withheld"
    return Text(
        file["verdict"] + (f" ({', '.join(failed)}{withheld})" if failed else ""), style=_STYLES[file["verdict"]]
    )
