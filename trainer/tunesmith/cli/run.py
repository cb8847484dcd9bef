"""``tunesmith run``: carry a job out on this machine, or go on with it."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from tunesmith import published_names
from tunesmith.cli.ending import Outcome, failure_of_gates, failure_of_run, gates_in_short, outcome_of_error
from tunesmith.cli.errors import tell
from tunesmith.cli.notes import notes_on, notes_on_drift, notes_on_model
from tunesmith.cli.options import Manifest, Namespace, StoreUri, given_path
from tunesmith.cli.report import failed_gates, summary
from tunesmith.cli.terminal import terminal
from tunesmith.cli.view import board_of, duration, json_lines, showing
from tunesmith.llama_cpp import provide_tools
from tunesmith.local.deliver import deliver_anew, digests_of, refuse_a_folder_of_others
from tunesmith.local.job import LocalJob, Wanted, begin, held, open_job, refuse_disks, still_to_make
from tunesmith.local.record import Record, read_record, write_record
from tunesmith.local.runner import Run
from tunesmith.local.scratch import working_in
from tunesmith.manifest import load_manifest, read_manifest
from tunesmith.secrets import refuse_push_without_token
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.plan import PlannedStage
from tunesmith_api.stages import Failure, Stage, failure_of

Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="The folder for the result. [default: ./NAME]", parser=given_path, metavar="<path>"
    ),
]
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
    try:
        with _interruptible():
            wanted = Wanted(read_manifest(manifest), output, store, namespace)
            outcome = _run(wanted, terminal(stderr=as_json), as_json=as_json)
    except BaseException as error:
        # Whatever it was: a program is told that nothing more will come.
        if as_json:
            _write(outcome_of_error(error))
        raise
    if as_json:
        _write(outcome)
    raise typer.Exit(outcome.code)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Before the first stage and after the last, SIGTERM ends the run as Ctrl-C does: recorded and told to a program.

    SIGINT too: whoever starts commands in the background has it ignored.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    with _handling(interrupt):
        yield


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before: dict[signal.Signals, Any] = {name: signal.signal(name, handler) for name in _STOPPERS}
    try:
        yield
    finally:
        for name, earlier in before.items():
            signal.signal(name, earlier)


def _write(outcome: Outcome) -> None:
    sys.stdout.write(json.dumps(outcome.to_event()) + "\n")


def _run(wanted: Wanted, console: Console, *, as_json: bool) -> Outcome:
    began = time.monotonic()
    # Read before anything is written: a manifest that is wrong leaves no trace.
    name = load_manifest(wanted.manifest).metadata.name
    folder = wanted.output or Path(name)
    with held(folder):
        local = open_job(replace(wanted, output=folder))
        to_make = still_to_make(local)
        for note in _notes(local, to_make):
            console.print(note, style="yellow", soft_wrap=True)
        refuse_a_folder_of_others(folder, _may_deliver(local), None if to_make else _made(local))
        if Stage.PUBLISH not in local.record.stages:
            refuse_push_without_token(local.job.spec.publish, local.site.secrets)
        refuse_disks(local, to_make)
        if to_make:
            _provide_tools(console)
        with _recording_errors(folder, local.record), working_in(local.site.scratch):
            carried, files = _carry_out(begin(local), console, as_json=as_json)
            return _conclude(carried, files, console, None if as_json else began)


def _notes(local: LocalJob, to_make: Sequence[PlannedStage]) -> Iterator[str]:
    trains = any(stage.stage is Stage.TRAIN for stage in to_make)
    yield from notes_on(local.job, trains=trains)
    if trains and local.record.resolved is not None:
        yield from notes_on_model(local.job, local.record.resolved.model)
    yield from notes_on_drift(local.drifted)


@contextmanager
def _recording_errors(output: Path, begun: Record) -> Iterator[None]:
    """A run that an error ends (a store that is gone) is recorded as ended, like one that a stage ends."""
    try:
        yield
    except BaseException as error:
        _record(outcome_of_error(error), output, read_record(output) or begun)
        raise


def _record(outcome: Outcome, output: Path, record: Record) -> None:
    write_record(output, record.ended(outcome.failure))


def _may_deliver(local: LocalJob) -> tuple[str, ...]:
    resolved = local.record.resolved
    base = () if resolved is None else (file.path for file in resolved.model.files)
    return published_names.all_names(local.job.metadata.name, local.job.spec.quantizations, base)


def _made(local: LocalJob) -> dict[str, str] | None:
    """The files of the result where the store has it already, None where it is still to be published."""
    artifacts, publication = local.site.artifacts, local.plan.stage(Stage.PUBLISH).outputs[0]
    return digests_of(artifacts, publication.key) if artifacts.holds(publication.kind, publication.key) else None


def _provide_tools(console: Console) -> None:
    """Build llama.cpp's tools before the first stage where they are not there: minutes, once per machine."""
    said = 0

    def say(fraction: float, what: str) -> None:
        nonlocal said
        if fraction * 100 >= said:
            console.print(f"llama.cpp's tools: {what} ({fraction:.0%})")
            said += 10

    provide_tools(say)


def _carry_out(local: LocalJob, console: Console, *, as_json: bool) -> tuple[Run, tuple[Path, ...]]:
    """Run to the end and deliver; what is found damaged on the way to the user is made once more."""
    done = {name: stage.result for name, stage in local.record.stages.items()}
    board = board_of(local.plan, done, f"{local.job.metadata.name} -> {local.site.output}")
    live = console.is_terminal and not as_json
    say = board.announce if live else _say_at_once
    files: tuple[Path, ...] = ()
    with showing(board, console, live=live) as show:
        deadline = local.job.spec.active_deadline_seconds
        run = Run(local.plan, local.record, local.site, json_lines(sys.stdout) if as_json else show, deadline)
        with _stopping(run, say):
            run.carry_out()
        while Stage.PUBLISH in run.record.stages and run.failure is None:
            try:
                files = deliver_anew(local.site.artifacts, run.plan.stage(Stage.PUBLISH).key, local.site.output)
                break
            except StageFailure as error:
                if not run.mend(failure_of(error)):
                    run.failure = failure_of(error)
                    break
            with _stopping(run, say):
                run.carry_out()
    return run, files


@contextmanager
def _stopping(run: Run, say: Callable[[str], None]) -> Iterator[None]:
    """A first SIGINT or SIGTERM asks the run to save and end, which is said; a second to end at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        run.stop()
        if run.stops == 1:
            what = "Saving at the end of the running step" if run.is_training() else "Stopping"
            say(f"{what}; press Ctrl-C again to end at once.")

    with _handling(stop):
        yield


def _say_at_once(sentence: str) -> None:
    """From a signal handler, which may interrupt a print of the console's own."""
    os.write(2, f"\n{sentence}\n".encode())


# From the first of these on, a result is recorded that was made for this very manifest.
_PINNED = (Stage.TRAIN, Stage.CONVERT)
# What only another model, other rows or another training can mend: full disks and missing tools are mended in place.
_OF_THE_JOB = {
    FailureClass.SPEC_INVALID,
    FailureClass.MODEL_INVALID,
    FailureClass.DATASET_INVALID,
    FailureClass.CONVERSION_UNSUPPORTED,
    FailureClass.TRAINING_DIVERGED,
    FailureClass.MERGE_INVALID,
}
_STOPPERS = (signal.SIGINT, signal.SIGTERM)


def _conclude(run: Run, files: tuple[Path, ...], console: Console, began: float | None) -> Outcome:
    """Record how it ended and say it; `began` (of the clock) is None where a program reads, and figures say nothing."""
    output, failure = run.site.output, failure_of_run(run)
    if failure is not None:
        _record(Outcome(failure), output, run.record)
        _tell_failure(failure, output, console)
        return Outcome(failure)
    report = json.loads((output / published_names.REPORT).read_text())
    gates = failure_of_gates(report, run.record.stages[Stage.PUBLISH].result.figures)
    outcome = Outcome(gates, files)
    _record(outcome, output, run.record)
    if began is not None:
        _tell_result(report, output, console, began)
    for sentence in failed_gates(report):
        console.print(sentence, style="red", soft_wrap=True)
    if gates is not None:
        tell(StageFailure(FailureClass.GATE_FAILED, *gates_in_short(report)), console)
    return outcome


def _tell_result(report: dict[str, Any], output: Path, console: Console, began: float) -> None:
    console.print(summary(report))
    console.print(f"Files: {output}/   (this run took {duration(time.monotonic() - began)})", soft_wrap=True)
    if any(file["published"] for file in report["files"]):
        console.print(f"Chat:  tunesmith chat {output}/", soft_wrap=True)


def _tell_failure(failure: Failure, output: Path, console: Console) -> None:
    if failure.failure is FailureClass.INTERRUPTED:
        console.print("Stopped. The same command goes on from here.")
        return
    tell(failure, console)
    if failure.stage in _PINNED and failure.failure in _OF_THE_JOB:
        console.print("To change the model, the rows or the training now, choose another --output; what has not")
        console.print("changed is used again from the store.")
    console.print(f"Logs: {output / '.tunesmith' / 'logs'}", soft_wrap=True)
