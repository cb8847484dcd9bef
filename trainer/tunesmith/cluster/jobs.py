"""FineTuneJobs of a cluster: read, applied, watched, marked and deleted; and the logs of their pods."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from tunesmith.cluster.connection import Connection
from tunesmith.cluster.problem import ClusterProblem
from tunesmith.cluster.seen import SeenJob, seen_job
from tunesmith_api.names import CONTAINER, JOB_LABEL, RETRY_ANNOTATION

# Whose the fields of an applied manifest are.
MANAGER = "tunesmith"
_DRY_RUN = {"dryRun": "All"}
# The API server ends a watch after so many seconds, and one that says nothing for longer has lost its connection.
_WATCH_SECONDS, _QUIET_SECONDS = 240, 270.0
# How long a watch waits before it asks an API server again that was there a while ago (seconds): two minutes in all.
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0, 15.0, 15.0, 15.0)


def read_job(connection: Connection, namespace: str, name: str) -> SeenJob:
    """The job as it is; a `ClusterProblem` of status 404 if there is none."""
    try:
        return seen_job(connection.ask("GET", _path(namespace, name))[1])
    except ClusterProblem as problem:
        if problem.status == HTTPStatus.NOT_FOUND:
            raise _absent(namespace, name, problem.hint) from problem
        raise


def read_jobs(connection: Connection, namespace: str | None) -> list[SeenJob]:
    """The jobs of a namespace by name; of all namespaces where it is None.

    One whose status another version has written is there too, and says so.
    """
    items = connection.ask("GET", _path(namespace))[1]["items"]
    return sorted(map(_listed, items), key=lambda seen: (seen.namespace, seen.name))


def _listed(body: Mapping[str, Any]) -> SeenJob:
    try:
        return seen_job(body)
    except ClusterProblem as problem:
        said = {"observedGeneration": 1, "message": problem.message}
        return seen_job({**body, "status": said})


def find_job(connection: Connection, namespace: str, name: str) -> SeenJob | None:
    """The same, None if there is none."""
    try:
        return read_job(connection, namespace, name)
    except ClusterProblem as problem:
        if problem.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def apply_job(connection: Connection, manifest: Mapping[str, Any], *, force: bool) -> SeenJob:
    """As ``kubectl apply --server-side``: make the object, or change it to what the manifest says.

    Fields that an earlier call set and this one does not are unset; `force` takes over those of others. Where it may
    not and the API server would not take the manifest anyway, that is what is raised.
    """
    return seen_job(_apply(connection, manifest, {}, force=force))


def try_to_apply(connection: Connection, manifest: Mapping[str, Any], *, force: bool) -> None:
    """Raise what `apply_job` would raise, and change nothing."""
    _apply(connection, manifest, _DRY_RUN, force=force)


def _apply(
    connection: Connection, manifest: Mapping[str, Any], query: Mapping[str, str], *, force: bool
) -> dict[str, Any]:
    meta = manifest["metadata"]
    asked = {"fieldManager": MANAGER, "fieldValidation": "Strict", "force": json.dumps(force), **query}
    path = _path(meta["namespace"], meta["name"])
    try:
        return connection.ask("PATCH", path, asked, manifest, "application/apply-patch+yaml")[1]
    except ClusterProblem as problem:
        if problem.status == HTTPStatus.CONFLICT and not force:
            _apply(connection, manifest, _DRY_RUN, force=True)
        raise


def ask_for_retry(connection: Connection, namespace: str, name: str, value: str) -> None:
    """Set the annotation that the operator heeds (contract 8)."""
    body = {"metadata": {"annotations": {RETRY_ANNOTATION: value}}}
    query = {"fieldManager": f"{MANAGER}-retry"}
    connection.ask("PATCH", _path(namespace, name), query, body, "application/merge-patch+json")


def delete_job(connection: Connection, seen: SeenJob) -> None:
    """Delete this object and no later one of its name; what belongs to it goes after it."""
    options = {"propagationPolicy": "Background", "preconditions": {"uid": seen.uid}}
    try:
        connection.ask("DELETE", _path(seen.namespace, seen.name), body=options)
    except ClusterProblem as problem:
        if problem.status != HTTPStatus.CONFLICT:
            raise
        message = f"{seen.name} has been deleted and made again meanwhile: the new one is left as it is"
        raise ClusterProblem(message, f"Look at it: tunesmith status {seen.name}.") from problem


def watch_job(connection: Connection, namespace: str, name: str, pauses: Sequence[float] = PAUSES) -> Iterator[SeenJob]:
    """The job as it is, and again after every change, without end; watches that end are begun anew.

    An API server that was there and is not any more is asked again, after each of `pauses`. A `ClusterProblem` when the
    job is deleted.
    """
    version, waits = "", iter(())  # type: tuple[str, Iterator[float]]
    while True:
        try:
            seen = read_job(connection, namespace, name)
            waits = iter(pauses)
            if seen.version != version:
                version = seen.version
                yield seen
            for changed in _changes(connection, seen):
                version = changed.version
                yield changed
        except ClusterProblem as problem:
            pause = next(waits, None) if problem.passing else None
            if pause is None:
                raise
            time.sleep(pause)


def _changes(connection: Connection, seen: SeenJob) -> Iterator[SeenJob]:
    """What one watch tells, until it ends or the API server has forgotten where it was to begin (410)."""
    query = {
        "watch": "true",
        "fieldSelector": f"metadata.name={seen.name}",
        "resourceVersion": seen.version,
        "timeoutSeconds": str(_WATCH_SECONDS),
    }
    rest = b""
    for piece in connection.stream(_path(seen.namespace), query, _QUIET_SECONDS):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            event = json.loads(line)
            if event["type"] == "DELETED":
                raise _absent(seen.namespace, seen.name, "It was deleted; what it had made is still in the store.")
            if event["type"] not in ("ADDED", "MODIFIED"):
                return
            yield seen_job(event["object"])


def pods_of(connection: Connection, namespace: str, name: str) -> Sequence[Mapping[str, Any]]:
    """The pods of a job's stages that are still there."""
    query = {"labelSelector": f"{JOB_LABEL}={name}"}
    return list(connection.ask("GET", f"/api/v1/namespaces/{namespace}/pods", query)[1]["items"])


def pod_log(connection: Connection, namespace: str, pod: str, *, follow: bool) -> Iterator[bytes]:
    """What a stage has written, and what it goes on to write if it is followed."""
    query = {"container": CONTAINER, "follow": json.dumps(follow)}
    return connection.stream(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query, None)


def _path(namespace: str | None, name: str = "") -> str:
    within = f"/namespaces/{namespace}" if namespace is not None else ""
    collection = f"/apis/tunesmith.dev/v1alpha1{within}/finetunejobs"
    return f"{collection}/{name}" if name else collection


def _absent(namespace: str, name: str, hint: str) -> ClusterProblem:
    return ClusterProblem(f"there is no FineTuneJob {name} in the namespace {namespace}", hint, status=404)
