"""``tunesmith cancel`` and ``retry``: a job of a cluster ends, or what has failed is tried again."""

from datetime import UTC, datetime

from rich.text import Text

from tunesmith.cli.cluster_options import Context, InNamespace, Kubeconfig, Name
from tunesmith.cli.terminal import terminal, visible
from tunesmith.cluster.connection import Aim, Connection, connect
from tunesmith.cluster.jobs import ask_for_retry, delete_job, read_job
from tunesmith.cluster.retrying import stages_to_retry
from tunesmith.cluster.seen import SeenJob


def cancel(name: Name, namespace: InNamespace = None, context: Context = None, kubeconfig: Kubeconfig = None) -> None:
    """End a job: its object and its pods go; what it has made stays in the store.

    To pause one instead, set spec.suspend: true in its manifest and submit that.

    Example: `tunesmith cancel support-bot`
    """
    connection, seen = _job(name, Aim(namespace, context, kubeconfig))
    delete_job(connection, seen)
    console = terminal()
    ends = "" if seen.settled else " and its pods are being stopped, a training after it has saved"
    console.print(f"{name} is deleted from the namespace {seen.namespace}{ends}.", soft_wrap=True)
    console.print("What it has made stays in the store: tunesmith submit of the same manifest goes on from there.")


def retry(name: Name, namespace: InNamespace = None, context: Context = None, kubeconfig: Kubeconfig = None) -> None:
    """Try again what has failed of a job; what is done is not done again.

    Example: `tunesmith retry support-bot`
    """
    connection, seen = _job(name, Aim(namespace, context, kubeconfig))
    stages = stages_to_retry(seen)
    # RFC 3339; to the microsecond, so that it is another value each time.
    ask_for_retry(connection, seen.namespace, name, datetime.now(UTC).isoformat(timespec="microseconds"))
    console = terminal()
    again = f"{', '.join(stages)} of {name}" if stages else name
    console.print(f"{again} will be tried again. Follow it:  {_watch(seen)}", soft_wrap=True)
    failure = seen.status.failure
    if failure is not None and not failure.retry_helps:
        said = f"It had failed with {failure.failure}, which trying again alone seldom mends. {failure.hint}"
        console.print(Text(visible(said)), style="yellow", soft_wrap=True)


def _watch(seen: SeenJob) -> str:
    return f"tunesmith status {seen.name} --watch -n {seen.namespace}"


def _job(name: str, aim: Aim) -> tuple[Connection, SeenJob]:
    connection = connect(aim)
    return connection, read_job(connection, connection.where(aim.namespace), name)
