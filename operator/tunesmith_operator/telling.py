"""What whoever is notified is told of a job: that it is complete, has failed, or does not get on (CloudEvents 1.0)."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tunesmith_api.spec import API_VERSION
from tunesmith_api.status import JobStatus, Phase, StageState
from tunesmith_operator.world import StageJob, World

# Older ends are no news: when notifications are turned on, hundreds of jobs may have ended long ago.
_NEWS = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Tale:
    """One notification: `id` is the same whoever makes it and however often, so that a receiver knows it again."""

    id: str
    outcome: str
    time: datetime
    body: bytes


@dataclass(frozen=True, slots=True)
class Patience:
    """After how long a job does not get on, and since when this operator has listened: what was said before is lost."""

    after: timedelta
    listening: datetime | None


def tale(world: World, patience: Patience) -> Tale | None:
    """What is to be told of the job as its status was written, unless that says that it was told."""
    status = world.status
    if status.phase in (Phase.COMPLETE, Phase.FAILED) and status.finished is not None:
        if world.now - status.finished > _NEWS:
            return None
        return _new(world, _tale(world, status.phase.value.lower(), status.finished, status.message))
    since = min(_not_getting_on(world, patience), default=None, key=lambda each: each[0])
    if since is None or world.now < since[0] + patience.after:
        return None
    return _new(world, _tale(world, "stuck", *since))


def next_tale(world: World, patience: Patience) -> datetime | None:
    """When a job that goes on as it is will be told of as stuck."""
    moments = (since + patience.after for since, _ in _not_getting_on(world, patience))
    return min((moment for moment in moments if moment > world.now), default=None)


def _new(world: World, told: Tale) -> Tale | None:
    return None if told.id == world.status.notified else told


def _not_getting_on(world: World, patience: Patience) -> Iterator[tuple[datetime, str]]:
    """Since when, and the stage with what its record says."""
    said = {stage.name: stage for stage in world.status.stages}
    for job in world.own_jobs:
        stage = said.get(job.stage)
        if job.ended or job.deleting or job.suspended or stage is None:
            continue
        if job.waits:
            yield job.created, f"{job.stage} waits: {stage.message}"
        elif patience.listening is not None and (last := _last_sign(job, patience.listening)) is not None:
            yield last, f"{job.stage} has not said how far it is"
    for stage in said.values():
        if stage.state is StageState.WAITING and stage.away_since is not None:
            yield stage.away_since, f"{stage.name} waits: {stage.message}"


def _last_sign(job: StageJob, listening: datetime) -> datetime | None:
    pod = job.newest_pod
    if pod is None or pod.started is None or pod.ended is not None:
        return None
    return max(pod.started if pod.heard is None else pod.heard.time, listening)


def _tale(world: World, outcome: str, since: datetime, message: str) -> Tale:
    made_of = json.dumps([world.uid, outcome, since.isoformat()])
    name = hashlib.sha256(made_of.encode()).hexdigest()
    event = {
        "specversion": "1.0",
        "id": name,
        "source": f"/apis/{API_VERSION}/namespaces/{world.namespace}/finetunejobs/{world.name}",
        "type": f"dev.tunesmith.finetunejob.{outcome}",
        "subject": f"{world.namespace}/{world.name}",
        "time": since.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": _data(world, world.status, message),
    }
    return Tale(name, outcome, since, json.dumps(event).encode())


def _data(world: World, status: JobStatus, message: str) -> dict[str, Any]:
    """What the status says in short; nothing of it is secret."""
    known = status.to_json_dict()
    about = {"name": world.name, "namespace": world.namespace, "uid": world.uid, "message": message}
    return about | {
        name: known[name] for name in ("phase", "summary", "failure", "artifacts", "store") if name in known
    }
