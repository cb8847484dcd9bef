"""``tunesmith run``: carry a job out on this machine, or go on with it."""

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from tunesmith.cli.errors import FAILED, INTERRUPTED, exit_code, tell
from tunesmith.cli.view import board_of, duration, json_lines, showing
from tunesmith.llama_cpp import provide_tools
from tunesmith.local.deliver import deliver_anew
from tunesmith.local.job import LocalJob, Wanted, begin, held, open_job
from tunesmith.local.record import write_record
from tunesmith.local.runner import Run
from tunesmith_api.failures import FailureClass
from tunesmith_api.stages import Stage

Manifest = Annotated[Path, typer.Argument(help="The FineTuneJob to carry out.", metavar="JOB.YAML")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="The folder for the result. [default: ./NAME]")]
StoreUri = Annotated[str | None, typer.Option("--store", help="Where artifacts live: a folder or s3://bucket/prefix.")]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="The namespace within the store.")]
Json = Annotated[bool, typer.Option("--json", help="Write events as lines of JSON.")]


def run(
    manifest: Manifest,
    output: Output = None,
    store: StoreUri = None,
    namespace: Namespace = None,
    as_json: Json = False,
) -> None:
    """Train, convert, quantize, measure and publish; run again, it goes on from where it was.

    A first Ctrl-C saves at the end of the running step, a second ends within 5 seconds.

    Example: `tunesmith run examples/quickstart.yaml --output out/`
    """
    console = Console(stderr=as_json)
    folder = output or Path(name_of(manifest))
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        local = open_job(Wanted(manifest, folder, store, namespace))
        _warn(local, console)
        _provide_tools(local, console)
        carried = _carry_out(begin(local), console, as_json=as_json)
        code = _conclude(carried, local, console, as_json=as_json)
    raise typer.Exit(code)


def name_of(manifest: Path) -> str:
    """The job's name, which is also the output folder's where none is given."""
    from tunesmith.manifest import load_manifest

    return load_manifest(manifest).metadata.name


def _warn(local: LocalJob, console: Console) -> None:
    if local.job.spec.targets:
        console.print("spec.targets is accepted and not yet used: name quantizations instead.", style="yellow")


def _provide_tools(local: LocalJob, console: Console) -> None:
    """Build llama.cpp's tools before the first stage where they are not there: minutes, once per machine."""
    if len(local.record.stages) == len(local.plan.stages):
        return
    said = 0

    def say(fraction: float, what: str) -> None:
        nonlocal said
        if fraction * 100 >= said:
            console.print(f"llama.cpp's tools: {what} ({fraction:.0%})", highlight=False)
            said += 10

    provide_tools(say)


def _carry_out(local: LocalJob, console: Console, *, as_json: bool) -> Run:
    done = {name: stage.result for name, stage in local.record.stages.items()}
    board = board_of(local.plan, done, f"{local.job.metadata.name} -> {local.site.output}")
    live = console.is_terminal and not as_json
    with showing(board, console, live=live) as show:
        run = Run(local.plan, local.record, local.site, json_lines(sys.stdout) if as_json else show)

        def stop(number: int, frame: FrameType | None) -> None:
            del number, frame
            run.stop()
            if run.stops == 1:
                # os.write: the handler may interrupt a print of the console's own
                os.write(2, b"\nSaving at the end of the running step; press Ctrl-C again to end at once.\n")

        handlers: dict[signal.Signals, Any] = {name: signal.signal(name, stop) for name in _STOPPERS}
        try:
            run.carry_out()
        finally:
            for name, handler in handlers.items():
                signal.signal(name, handler)
    return run


_STOPPERS = (signal.SIGINT, signal.SIGTERM)


def _conclude(run: Run, local: LocalJob, console: Console, *, as_json: bool) -> int:
    """Deliver what was published, say how it ended; the exit code."""
    publication = run.plan.stage(Stage.PUBLISH)
    if run.stops and Stage.PUBLISH not in run.record.stages:
        console.print("Stopped. The same command goes on from here.")
        return INTERRUPTED
    if run.failure is not None:
        failure = run.failure.to_json_dict()
        write_record(local.site.output, run.record.model_copy(update={"phase": "Failed", "failure": failure}))
        tell(run.failure, console)
        console.print(f"Logs: {local.site.output / '.tunesmith' / 'logs'}", highlight=False)
        return exit_code(run.failure)
    files = deliver_anew(local.site.artifacts, publication.key, local.site.output)
    figures = run.record.stages[Stage.PUBLISH].result.figures
    failed = figures.get("verdict") == "Failed"
    withheld = failed and figures.get("onFailure") == "Withhold"
    failure_record = {"class": FailureClass.GATE_FAILED.value, "stage": "publish"} if withheld else None
    phase = "Failed" if withheld else "Complete"
    write_record(local.site.output, run.record.model_copy(update={"phase": phase, "failure": failure_record}))
    if as_json:
        sys.stdout.write(json.dumps({"event": "finished", "phase": phase, "files": [str(f) for f in files]}) + "\n")
    else:
        _say_where(run, local, console)
    return FAILED if withheld else 0


def _say_where(run: Run, local: LocalJob, console: Console) -> None:
    from tunesmith.cli.report import summary

    report = json.loads((local.site.output / "report.json").read_text())
    console.print(summary(report))
    seconds = sum(stage.result.seconds for stage in run.record.stages.values() if not stage.result.reused)
    console.print(f"Files: {local.site.output}/   (stages took {duration(seconds)})", highlight=False)
    console.print(f"Chat:  tunesmith chat {local.site.output}/", highlight=False)
