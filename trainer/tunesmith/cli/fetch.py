"""``tunesmith fetch``: what a job of a cluster has published comes to this machine."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.cluster_options import Context, InNamespace, Kubeconfig, Name, StoreEndpoint, StoreOfJob
from tunesmith.cli.options import given_path
from tunesmith.cli.terminal import terminal
from tunesmith.cluster.connection import Aim, connect
from tunesmith.cluster.fetching import fetch_published
from tunesmith.cluster.jobs import find_job
from tunesmith.cluster.problem import ClusterProblem
from tunesmith.cluster.reach import StoreCall, artifacts_at, location_of_job, named_location, told_of_reach
from tunesmith.cluster.seen import SeenJob
from tunesmith.store.published import latest
from tunesmith_api.stages import StoreLocation
from tunesmith_api.status import Phase

Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="The folder for the files. [default: ./NAME]", parser=given_path, metavar="<path>"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]


def fetch(  # noqa: PLR0913, PLR0917  # each is an option of the command
    name: Name,
    output: Output = None,
    namespace: InNamespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    store: StoreOfJob = None,
    store_endpoint: StoreEndpoint = None,
    as_json: Json = False,
) -> None:
    """Bring the newest files that a job has published, each verified by its sha256; no file of yours is replaced.

    Example: `tunesmith fetch support-bot --output out/`
    """
    aim, call = Aim(namespace, context, kubeconfig), StoreCall(store, store_endpoint)
    seen, location = _asked(name, aim, call)
    with told_of_reach(store_endpoint):
        artifacts = artifacts_at(location, store_endpoint)
        published = latest(artifacts, name)
        if published is None:
            raise _nothing(name, seen, location)
        folder = output or Path(name)
        files = fetch_published(artifacts, published, folder)
    if as_json:
        told = {"job": name, "namespace": location.namespace, "key": published.key}
        sys.stdout.write(json.dumps(told | {"files": [str(file) for file in files]}, indent=1) + "\n")
        return
    console = terminal()
    if seen is not None and not (seen.settled and seen.status.phase is Phase.COMPLETE):
        console.print(f"{name} is {seen.status.phase}: this is what it has published.", style="yellow")
    for file in files:
        console.print(str(file), soft_wrap=True)
    console.print(f"{len(files)} files, every sha256 is right. Look at them: tunesmith show {folder}/", soft_wrap=True)


def _asked(name: str, aim: Aim, call: StoreCall) -> tuple[SeenJob | None, StoreLocation]:
    """The job and its store; what a job has made outlives it, so that with a store nobody else is asked."""
    if call.uri is None:
        connection = connect(aim)
        namespace = connection.where(aim.namespace)
        seen = find_job(connection, namespace, name)
        if seen is None:
            hint = "What a job has made outlives it: name its store with --store s3://bucket/prefix."
            raise ClusterProblem(f"there is no FineTuneJob {name} in the namespace {namespace}", hint)
        return seen, location_of_job(seen)
    namespace = aim.namespace or connect(aim).where()
    return None, named_location(call, namespace)


def _nothing(name: str, seen: SeenJob | None, location: StoreLocation) -> ClusterProblem:
    if seen is None:
        message = f"{location.uri} has nothing that {name} of the namespace {location.namespace} has published"
        return ClusterProblem(message, "Check the name, --namespace and --store.")
    message = f"{name} has published nothing yet: it is {seen.status.phase}"
    return ClusterProblem(message, f"Follow it with tunesmith status {name} --watch -n {seen.namespace}.")
