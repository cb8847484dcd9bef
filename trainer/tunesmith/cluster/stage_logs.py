"""Which log answers a question about a stage: its pod's, as long as there is one, else the newest in the store."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunesmith.cluster.problem import wrong
from tunesmith.cluster.seen import SeenJob
from tunesmith.store import Store, StoredObject
from tunesmith.store.logs import age, stored_logs
from tunesmith.store.runs import read_run
from tunesmith_api.names import CONTAINER, STAGE_LABEL
from tunesmith_api.stages import Stage, stage_of
from tunesmith_api.status import JobStatus, StageState, StageStatus

# What a prepare that could not resolve its sources files its log under: it has no key yet.
_NO_KEY = "none"


def stage_to_read(status: JobStatus, asked: str | None) -> str:
    """The name of the stage that is meant: the one that was asked for, else what runs, else what failed, else the last.

    A stage that there is once may be asked for without its type. Raises a `ClusterProblem` that names them all.
    """
    stages = status.stages or (StageStatus(name=Stage.PREPARE),)
    if asked is None:
        for state in (StageState.RUNNING, StageState.FAILED):
            found = [stage.name for stage in stages if stage.state is state]
            if found:
                return found[0]
        began = [stage.name for stage in stages if stage.started is not None]
        return began[-1] if began else stages[0].name
    names = [stage.name for stage in stages]
    meant = [name for name in names if name == asked] or [name for name in names if name.startswith(f"{asked}-")]
    if len(meant) != 1:
        raise wrong(f"{asked!r} is {'no' if not meant else 'more than one'} stage of this job", f"{_listed(names)}.")
    return meant[0]


def pod_to_read(pods: Iterable[Mapping[str, Any]], stage: str) -> str | None:
    """The name of the newest pod of a stage that has begun; None where none has."""
    begun = [
        (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"])
        for pod in pods
        if pod["metadata"]["labels"].get(STAGE_LABEL) == stage and _has_begun(pod)
    ]
    return max(begun)[1] if begun else None


def is_followed(pods: Iterable[Mapping[str, Any]], stage: str) -> bool:
    """Whether there is a newer pod of the stage than the one to read, which has not begun yet."""
    there = [pod for pod in pods if pod["metadata"]["labels"].get(STAGE_LABEL) == stage]
    newest = max(there, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)
    return newest is not None and not _has_begun(newest)


def newest_log(store: Store, seen: SeenJob, stage: str) -> bytes | None:
    """The newest log that a stage of this job has left in the store; None where it has left none."""
    kind = stage_of(stage) or stage
    found = [log for key in _keys(store, seen, stage) for log in stored_logs(store, seen.namespace, kind, key)]
    if not found and kind == Stage.PREPARE:
        found = _unresolved(store, seen)
    return store.read_bytes(max(found, key=age).name) if found else None


def _keys(store: Store, seen: SeenJob, stage: str) -> Sequence[str]:
    """Those that the status records; for a stage that failed before, those that the run itself has written down."""
    recorded = seen.status.recorded_keys().get(stage)
    if recorded is not None:
        return tuple(recorded.outputs.values())
    run = read_run(store, seen.namespace, seen.uid)
    return () if run is None else tuple(key.key for key in run.keys)


def _unresolved(store: Store, seen: SeenJob) -> list[StoredObject]:
    """Logs without a key are those of all jobs: of this one are those since its prepare began."""
    began = seen.status.stages[0].started if seen.status.stages else None
    logs = stored_logs(store, seen.namespace, Stage.PREPARE, _NO_KEY)
    return [log for log in logs if began is not None and log.modified >= began]


def _has_begun(pod: Mapping[str, Any]) -> bool:
    states = (pod.get("status") or {}).get("containerStatuses") or ()
    return any(
        each["name"] == CONTAINER and not {"running", "terminated"}.isdisjoint(each.get("state") or {})
        for each in states
    )


def _listed(names: Sequence[str]) -> str:
    return f"It has {', '.join(names)}"
