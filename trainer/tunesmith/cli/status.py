"""``tunesmith status``: where a job of a cluster stands, once or until it is over."""

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from tunesmith.cli.cluster_options import Context, InNamespace, Kubeconfig, Name
from tunesmith.cli.errors import FAILED
from tunesmith.cli.standing import failure_lines, news, standing
from tunesmith.cli.terminal import terminal
from tunesmith.cluster.connection import Aim, connect
from tunesmith.cluster.jobs import read_job, watch_job
from tunesmith.cluster.seen import SeenJob

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow the job until it is complete or has failed.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON; with --watch an object a line for every change.")]
# Times grow while nothing else changes.
_REFRESHES_PER_SECOND = 1


def status(  # noqa: PLR0913, PLR0917  # each is an option of the command
    name: Name,
    watch: Watch = False,
    namespace: InNamespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    as_json: Json = False,
) -> None:
    """Show where a job stands: its stages, what it has made, why it failed; exit code 1 where it has failed.

    Example: `tunesmith status support-bot --watch`
    """
    connection = connect(Aim(namespace, context, kubeconfig))
    where = connection.where(namespace)
    if watch:
        seen = _follow(_until_settled(watch_job(connection, where, name)), terminal(stderr=as_json), as_json=as_json)
    else:
        seen = read_job(connection, where, name)
        if as_json:
            sys.stdout.write(json.dumps(document(seen), indent=1) + "\n")
        else:
            terminal().print(standing(seen, _now()))
    if seen.failed and seen.settled:
        raise typer.Exit(FAILED)


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
