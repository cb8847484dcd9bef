"""``tunesmith logs``: what a stage of a job has written, from its pod or, when that is gone, from the store."""

import codecs
import sys
from collections.abc import Iterable
from itertools import chain
from typing import Annotated

import typer

from tunesmith.cli.cluster_options import Context, InNamespace, Kubeconfig, Name, StoreEndpoint
from tunesmith.cli.options import given
from tunesmith.cli.terminal import terminal, visible
from tunesmith.cluster.connection import Aim, Connection, connect
from tunesmith.cluster.jobs import pod_log, pods_of, read_job
from tunesmith.cluster.problem import ClusterProblem
from tunesmith.cluster.reach import artifacts_at, location_of_job, told_of_reach
from tunesmith.cluster.seen import SeenJob
from tunesmith.cluster.stage_logs import is_followed, newest_log, pod_to_read, stage_to_read
from tunesmith_api.failures import StageFailure

StageName = Annotated[
    str | None,
    typer.Argument(
        help="The stage, as status lists it. [default: what runs, else what failed, else the last]",
        metavar="STAGE",
        parser=given,
    ),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the stage's pod ends.")]


def logs(  # noqa: PLR0913, PLR0917  # each is an option of the command
    name: Name,
    stage: StageName = None,
    follow: Follow = False,
    namespace: InNamespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    store_endpoint: StoreEndpoint = None,
) -> None:
    """Show what a stage has written: of its pod while there is one, else the newest log in the store.

    Example: `tunesmith logs support-bot train --follow`
    """
    connection = connect(Aim(namespace, context, kubeconfig))
    seen = read_job(connection, connection.where(namespace), name)
    meant = stage_to_read(seen.status, stage)
    if not _of_pod(connection, seen, meant, follow=follow):
        _show([_of_store(seen, meant, store_endpoint)])


def _of_pod(connection: Connection, seen: SeenJob, stage: str, *, follow: bool) -> bool:
    """Whether a pod has told its log: one whose node is gone, or that this user may not ask, has not."""
    try:
        pods = pods_of(connection, seen.namespace, seen.name)
        pod = pod_to_read(pods, stage)
        if pod is None:
            return False
        pieces = iter(pod_log(connection, seen.namespace, pod, follow=follow))
        first = next(pieces, b"")
    except ClusterProblem as problem:
        # Without a status there was no answer at all, and will be none for anything else.
        if not problem.status:
            raise
        return False
    _show(chain([first], pieces))
    if is_followed(pods, stage):
        said = f"This attempt has ended, and another is being started: see tunesmith status {seen.name}."
        terminal(stderr=True).print(said, style="yellow", soft_wrap=True)
    return True


def _of_store(seen: SeenJob, stage: str, endpoint: str | None) -> bytes:
    try:
        with told_of_reach(endpoint):
            found = newest_log(artifacts_at(location_of_job(seen), endpoint).store, seen, stage)
    except StageFailure as error:
        message = (
            f"{stage} of {seen.name} has no pod now, and what it left in the store cannot be read: {error.message}"
        )
        raise StageFailure(error.failure, message, error.hint) from error
    if found is None:
        message = f"{stage} of {seen.name} has left no log yet"
        raise ClusterProblem(message, f"What it waits for: tunesmith status {seen.name}.")
    return found


def _show(pieces: Iterable[bytes]) -> None:
    """As it is, but that on a terminal control characters of others give no orders."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        text = decoder.decode(piece)
        sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()
