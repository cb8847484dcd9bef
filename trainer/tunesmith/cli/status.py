"""``tunesmith status``: where a job of a cluster stands, once or until it is over; without a name where all do."""

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from tunesmith.cli.cluster_options import Context, InNamespace, Kubeconfig, label
from tunesmith.cli.errors import FAILED
from tunesmith.cli.standing import failure_lines, news, standing, standings
from tunesmith.cli.terminal import terminal
from tunesmith.cluster.connection import Aim, Connection, connect
from tunesmith.cluster.jobs import read_job, read_jobs, watch_job
from tunesmith.cluster.problem import wrong
from tunesmith.cluster.seen import SeenJob

OneName = Annotated[
    str | None,
    typer.Argument(help="The job. [default: all of the namespace, a line each]", metavar="NAME", parser=label),
]
EveryNamespace = Annotated[
    bool, typer.Option("--all-namespaces", "-A", help="Without NAME: the jobs of every namespace.")
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow the job until it is complete or has failed.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON; with --watch an object a line for every change.")]
# Times grow while nothing else changes.
_REFRESHES_PER_SECOND = 1


def status(  # noqa: PLR0913, PLR0917  # each is an option of the command
    name: OneName = None,
    watch: Watch = False,
    namespace: InNamespace = None,
    all_namespaces: EveryNamespace = False,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    as_json: Json = False,
) -> None:
    """Show where a job stands: its stages, what it has made, why it failed; exit code 1 where it has failed.

    Without a name it lists the jobs, and ends with 0 whatever has become of them.

    Example: `tunesmith status support-bot --watch`
    """
    if all_namespaces and (name is not None or namespace is not None):
        raise wrong("--all-namespaces is for a call without a name and a namespace", "Leave one of them out.")
    if watch and name is None:
        raise wrong("--watch follows one job", "Name it: tunesmith status lists them.")
    connection = connect(Aim(namespace, context, kubeconfig))
    where = connection.where(namespace)
    if name is None:
        _list(connection, None if all_namespaces else where, as_json=as_json)
        return
    if watch:
        seen = _follow(_until_settled(watch_job(connection, where, name)), terminal(stderr=as_json), as_json=as_json)
    else:
        seen = read_job(connection, where, name)
        _show(seen, as_json=as_json)
    if seen.failed and seen.settled:
        raise typer.Exit(FAILED)


def _show(seen: SeenJob, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(document(seen), indent=1) + "\n")
    else:
        terminal().print(standing(seen, _now()))


def _list(connection: Connection, where: str | None, *, as_json: bool) -> None:
    jobs = read_jobs(connection, where)
    if as_json:
        sys.stdout.write(json.dumps({"jobs": [document(seen) for seen in jobs]}, indent=1) + "\n")
    elif jobs:
        terminal().print(standings(jobs, _now(), with_namespace=where is None))
    else:
        said = "in any namespace" if where is None else f"in the namespace {where}"
        terminal(stderr=True).print(f"There is no FineTuneJob {said}.", soft_wrap=True)


def document(seen: SeenJob) -> dict[str, Any]:
    """What ``--json`` writes: the object's status but for what is empty, whose it is, and whether it is over."""
    whose = {"job": seen.name, "namespace": seen.namespace, "uid": seen.uid, "settled": seen.settled}
    return {**whose, "status": seen.status.to_json_dict()}


def _until_settled(changes: Iterator[SeenJob]) -> Iterator[SeenJob]:
    for seen in changes:
        yield seen
        if seen.settled:
            return


def _follow(changes: Iterator[SeenJob], console: Console, *, as_json: bool) -> SeenJob:
    """Tell every change, redrawn on a terminal and else as lines; the job as it was last."""
    last = next(changes)
    if as_json:
        _write(last)
        for last in changes:
            _write(last)
        return last
    if not console.is_terminal:
        return _tell(last, changes, console)
    drawn = _Drawn(last)
    with Live(drawn, console=console, refresh_per_second=_REFRESHES_PER_SECOND):
        for drawn.seen in changes:
            pass
    return drawn.seen


def _tell(first: SeenJob, changes: Iterator[SeenJob], console: Console) -> SeenJob:
    before, seen = None, first
    while True:
        for line in news(before, seen):
            console.print(line, soft_wrap=True)
        before, seen = seen, next(changes, seen)
        if seen is before:
            break
    for line in failure_lines(seen):
        console.print(line, soft_wrap=True)
    return seen


def _write(seen: SeenJob) -> None:
    sys.stdout.write(json.dumps(document(seen)) + "\n")
    sys.stdout.flush()


class _Drawn:
    """The newest state, as it looks whenever it is drawn."""

    def __init__(self, seen: SeenJob) -> None:
        self.seen = seen

    def __rich__(self) -> RenderableType:
        return standing(self.seen, _now())


def _now() -> datetime:
    return datetime.now().astimezone()
