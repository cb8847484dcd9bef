"""``tunesmith show``, ``compare`` and ``doctor``: what a finished run, two runs, or this machine look like."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunesmith import published_names
from tunesmith.cli.comparable import incomparable
from tunesmith.cli.errors import FAILED, exit_code, tell
from tunesmith.cli.report import summary
from tunesmith.cli.terminal import terminal, visible
from tunesmith.figures import interval, loss, megabytes, metric_of, number, score, with_error
from tunesmith.json_lines import read_lines
from tunesmith.local.record import Record, read_record
from tunesmith_api.failures import FailureClass, StageFailure

if TYPE_CHECKING:
    from tunesmith.doctor import Finding

Finished = Annotated[Path, typer.Argument(help="The output folder of a finished run.", metavar="OUT")]
_FINDING_STYLES = {"Ok": "green", "Note": "yellow", "Missing": "red"}
NOT_COMPARABLE = (
    "The two runs share no held-out prompts: no answers can be shown side by side, and scores and losses on "
    "different prompts do not say which is better."
)
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]


def show(out: Finished, as_json: Json = False) -> None:
    """Show the report of a finished run, or how far another came and why it failed.

    Example: `tunesmith show out/`
    """
    record = None if (out / published_names.REPORT).exists() else read_record(out)
    if record is not None:
        _show_unfinished(record, out, as_json=as_json)
        return
    report = read_report(out)
    if as_json:
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
        return
    terminal().print(summary(report))


def _show_unfinished(record: Record, out: Path, *, as_json: bool) -> None:
    """What there is without a report; the exit code is that of the run's failure."""
    done = list(record.stages)
    if as_json:
        failure = None if record.failure is None else record.failure.to_json_dict()
        sys.stdout.write(json.dumps({"phase": record.phase, "done": done, "failure": failure}, indent=1) + "\n")
    else:
        console = terminal()
        name = record.manifest["metadata"]["name"]
        console.print(f"{name}: {record.phase}; done: {', '.join(done) or 'nothing yet'}", soft_wrap=True)
        if record.failure is not None:
            tell(record.failure, console)
            console.print(f"Logs: {out / published_names.OWN_FOLDER / 'logs'}", soft_wrap=True)
    if record.failure is not None:
        raise typer.Exit(exit_code(record.failure))


def compare(
    first: Annotated[Path, typer.Argument(help="One finished run.", metavar="OUT1")],
    second: Annotated[Path, typer.Argument(help="Another.", metavar="OUT2")],
    answers: Annotated[int, typer.Option(help="How many answers to show side by side.", min=0)] = 5,
    as_json: Json = False,
) -> None:
    """Show figures and answers of two runs side by side.

    Example: `tunesmith compare out1/ out2/`
    """
    reports = (read_report(first), read_report(second))
    pairs = answer_pairs(*(read_answers(folder) for folder in (first, second)))
    unlike = incomparable(*reports)
    if as_json:
        told = {"reports": reports, "notComparable": [each.to_json_dict() for each in unlike], "answers": pairs}
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
        return
    console = terminal()
    console.print(figures_side_by_side(*reports, titles=(str(first), str(second))))
    for each in unlike:
        console.print(each.sentence(), style="yellow", soft_wrap=True)
    if not pairs:
        console.print(NOT_COMPARABLE, style="yellow", soft_wrap=True)
    for pair in pairs[:answers]:
        said = [(str(out), visible(pair[name] or "-")) for out, name in ((first, "first"), (second, "second"))]
        _tell_answers(visible(pair["prompt"][:100]), said, console)


def _tell_answers(prompt: str, answers: Sequence[tuple[str, str]], console: Console) -> None:
    """Of each run by its folder: side by side on a terminal, else one under the other; a file has no width to share."""
    if not console.is_terminal:
        console.print(f"--- {prompt}", soft_wrap=True)
        for out, said in answers:
            console.print(f"{out}: {said}", soft_wrap=True)
        return
    console.rule(prompt, align="left")
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_row(*(said for _, said in answers))
    console.print(table)


def doctor(as_json: Json = False) -> None:
    """Say what this machine has: Python packages, llama.cpp's tools, memory, disk, processor, GPU; exit code 1 where
    something is missing that a run needs.

    Example: `tunesmith doctor`
    """
    from tunesmith.doctor import examine

    report = examine()
    if as_json:
        sys.stdout.write(json.dumps(report.to_json_dict(), indent=1) + "\n")
    else:
        console = terminal()
        for finding in report.findings:
            _tell_finding(finding, console)
    if not report.ready:
        raise typer.Exit(FAILED)


def _tell_finding(finding: "Finding", console: Console) -> None:
    """A folder and a cure on lines of their own, never cut: they are there to be copied."""
    verdict = Text(f"{finding.verdict.value.lower():<8} ", style=_FINDING_STYLES[finding.verdict.value])
    console.print(verdict + Text(f"{finding.subject}: {finding.detail}"), soft_wrap=True)
    for line in (finding.facts.get("folder"), finding.hint):
        if line:
            console.print(f"{'':9}{line}", soft_wrap=True)


def read_report(folder: Path) -> dict[str, Any]:
    """The report of an output folder; `SpecInvalid` if it has none."""
    path = folder / published_names.REPORT
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise StageFailure(
            FailureClass.SPEC_INVALID,
            f"{folder} holds no report of a finished run",
            "Name the --output folder of a run that has ended.",
        ) from error


def read_answers(folder: Path) -> list[dict[str, Any]]:
    """The answers to held-out prompts that a run published."""
    path = folder / published_names.ANSWERS
    return read_lines(path) if path.exists() else []


def answer_pairs(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tuned models' answers to prompts that both runs held out, in the first run's order."""
    others = {row["id"]: row for row in second}
    return [
        {"prompt": _prompt(row), "first": _answer(row), "second": _answer(others[row["id"]])}
        for row in first
        if row["id"] in others
    ]


def _prompt(row: dict[str, Any]) -> str:
    prompt = row["prompt"]
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)


def _answer(row: dict[str, Any]) -> str | None:
    return (row.get("tuned") or {}).get("text")


def figures_side_by_side(first: dict[str, Any], second: dict[str, Any], *, titles: tuple[str, str]) -> Table:
    """One line per figure, one column per run; a file that only one run has shows a dash in the other."""
    table = Table(box=None, pad_edge=False)
    for name in ("", *titles):
        table.add_column(name, justify="left" if not name else "right", overflow="fold")
    columns = [_figures(report) for report in (first, second)]
    for name in dict.fromkeys([*columns[0], *columns[1]]):
        table.add_row(name, *(column.get(name, "-") for column in columns))
    return table


def _figures(report: dict[str, Any]) -> dict[str, str]:
    evaluation, training = report.get("evaluation") or {}, report.get("training") or {}
    tuned, base = evaluation.get("tuned") or {}, evaluation.get("base") or {}
    metric = metric_of(report)
    found = {
        "verdict": report["verdict"],
        "base model": report["base"]["name"],
        "steps": str(training.get("steps", "-")),
        "training loss": number(training.get("trainLoss"), 3),
        f"{metric}, base": interval(base.get("score")),
        f"{metric}, tuned": interval(tuned.get("score")),
        "held-out loss, base": loss(base.get("loss")),
        "held-out loss, tuned": loss(tuned.get("loss")),
        "general text perplexity, tuned": with_error((evaluation.get("forgetting") or {}).get("tuned")),
    }
    for file in report["files"]:
        figures = file["figures"]
        found |= {
            f"{file['type']}: MB": megabytes(file["bytes"]),
            f"{file['type']}: perplexity rise": with_error(figures.get("perplexityIncrease")),
            f"{file['type']}: {metric}": score((figures.get("score") or {}).get("value"), metric),
            f"{file['type']}: gates": file["verdict"],
        }
    return found
