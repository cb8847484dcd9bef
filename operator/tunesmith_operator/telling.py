"""What whoever is notified is told of a job: that it is complete, has failed, or does not get on (CloudEvents 1.0)."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tunesmith_api.spec import API_VERSION
from tunesmith_api.status import Phase, StageState, StageStatus
from tunesmith_operator.world import StageJob, World

# Older ends are no news: when notifications are turned on, hundreds of jobs may have ended long ago.
NEWS = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Tale:
    """One notification: `id` is the same whoever makes it and however often, so that a receiver knows it again."""

    id: str
    outcome: str
    time: datetime
    body: bytes


@dataclass(frozen=True, slots=True)
class Still:
    """What a job has come to, its end or something that does not get on: which, since when, and in words.

    `since` is None where nothing that is seen says it: who looks has to remember when that began.
    """

    which: str
    since: datetime | None
    message: str


def ended(world: World) -> Tale | None:
    """What is to be told of the job's end, unless its status says that it was told."""
    status = world.status
    if status.phase not in (Phase.COMPLETE, Phase.FAILED) or status.finished is None:
        return None
    end = Still(status.finished.isoformat(), status.finished, status.message)
    told = _tale(world, status.phase.value.lower(), end, status.finished)
    return None if world.now - status.finished > NEWS or told.id == status.notified else told


def stuck(world: World, still: Still, since: datetime) -> Tale | None:
    """What is to be told of something that does not get on, unless the status says that it was told."""
    told = _tale(world, "stuck", still, since)
    return None if told.id == world.status.notified else told


def standing_still(world: World, listening: datetime | None) -> Iterator[Still]:
    """What does not get on, however short a time; what its user, Kueue or its end keeps still is none.

    Pods are heard since `listening`, and not at all where it is None: what was said before is lost.
    """
    finished = world.status.phase in (Phase.COMPLETE, Phase.FAILED, Phase.SUSPENDED)
    if finished or world.spec.suspend or world.deleting:
        return
    jobs = {job.stage: job for job in world.own_jobs if not job.ended and not job.deleting}
    for stage in world.status.stages:
        job = jobs.get(stage.name)
        if stage.away_since is not None:
            yield Still(f"{stage.name} away {stage.away_since.isoformat()}", stage.away_since, _waits(stage))
        elif job is None and stage.state is StageState.WAITING and stage.message:
            yield Still(f"{stage.name} {stage.turn}", None, _waits(stage))
        elif job is not None and not job.suspended:
            yield from _of_job(job, stage, listening)


def _of_job(job: StageJob, stage: StageStatus, listening: datetime | None) -> Iterator[Still]:
    pod = job.newest_pod
    if pod is None:
        yield Still(job.uid, None, _waits(stage))
    elif pod.started is None:
        yield Still(pod.uid, pod.created, _waits(stage))
    elif pod.ended is not None or pod.gone_by is not None:
        yield Still(f"after {pod.uid}", None, _waits(stage))
    elif listening is not None:
        last = max(pod.started if pod.heard is None else pod.heard.time, listening)
        yield Still(f"silent {pod.uid}", last, f"{stage.name} has not said how far it is")


def _waits(stage: StageStatus) -> str:
    return f"{stage.name} waits: {stage.message}" if stage.message else f"{stage.name} waits"


def _tale(world: World, outcome: str, still: Still, since: datetime) -> Tale:
    name = hashlib.sha256(json.dumps([world.uid, outcome, still.which]).encode()).hexdigest()
    event = {
        "specversion": "1.0",
        "id": name,
        "source": f"/apis/{API_VERSION}/namespaces/{world.namespace}/finetunejobs/{world.name}",
        "type": f"dev.tunesmith.finetunejob.{outcome}",
        "subject": f"{world.namespace}/{world.name}",
        "time": since.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": _data(world, still.message),
    }
    return Tale(name, outcome, since, json.dumps(event).encode())


def _data(world: World, message: str) -> dict[str, Any]:
    """What the status says in short; nothing of it is secret."""
    known = world.status.to_json_dict()
    about = {"name": world.name, "namespace": world.namespace, "uid": world.uid, "message": message}
    return about | {
        name: known[name] for name in ("phase", "summary", "failure", "artifacts", "store") if name in known
    }
