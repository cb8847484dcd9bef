"""observe -> decide -> act -> one status write: a pass over one job, and the workers that make passes."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from tunesmith_api.stages import JobReference
from tunesmith_api.status import JobStatus
from tunesmith_operator.cache import Cache, Key
from tunesmith_operator.decide import Action, CreateJob, DeleteJob, DeleteObject, decide, waiting
from tunesmith_operator.delivering import Deliveries
from tunesmith_operator.excerpts import Excerpt, stage_job_of, version_of
from tunesmith_operator.explaining import Explained
from tunesmith_operator.fold import Rules
from tunesmith_operator.freshness import Freshness
from tunesmith_operator.history import history
from tunesmith_operator.kube import JOBS, OBJECTS, Absent, Conflict, Kube, Refused, resource_of
from tunesmith_operator.metrics import Metrics
from tunesmith_operator.notices import Notice, event_of, notices
from tunesmith_operator.outcome import unreadable
from tunesmith_operator.settled import settled
from tunesmith_operator.turns import Turns
from tunesmith_operator.world import World

log = logging.getLogger(__name__)

# When a pass is made again whose end the API server has refused: as the Job controller's own first back-off.
_AGAIN = timedelta(seconds=10)

# What the API server will not take another time either: an object that is invalid (422) or too large (413).
_NEVER = (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


@dataclass(frozen=True, slots=True)
class Operator:
    """What passes are made with."""

    cache: Cache
    turns: Turns
    kube: Kube
    rules: Rules
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    explained: Explained = field(default_factory=Explained)
    deliveries: Deliveries = field(default_factory=Deliveries)
    freshness: Freshness = field(default_factory=Freshness)
    metrics: Metrics = field(default_factory=Metrics)

    async def work(self) -> None:
        """Make passes until cancelled; an error of one job is its own, and its pass is made again."""
        while True:
            key = await self.turns.take()
            began, result = time.monotonic(), "Done"
            try:
                await self.reconcile(key)
            except Exception:
                log.exception("%s/%s: a pass has failed and will be made again", *key)
                self.turns.add_at(key, self.clock() + _AGAIN, self.clock())
                result = "Failed"
            finally:
                self.turns.done(key)
            self.metrics.own.passed(result, time.monotonic() - began)

    async def reconcile(self, key: Key) -> None:
        """One pass: safe at any moment, twice, and after a crash at any line of it."""
        seen = self.cache.objects.get(key)
        if seen is None:
            self.explained.forget(key)
            self.deliveries.forget(key)
            return
        if not self.cache.has_jobs(key) and settled(seen, self.deliveries.news_since):
            return
        about = JobReference(name=seen.name, namespace=seen.namespace, uid=seen.uid)
        try:
            world = self.cache.world(key, self.clock())
        except ValidationError as error:
            await self._refuse(seen, about, error)
            return
        world = replace(world, warnings=self.explained.warnings(world, self.kube, self.turns))
        decision = decide(world, self.rules)
        notified, learnt = self.deliveries.recorded(world, self.turns), world
        for action in decision.actions:
            # What is over goes once its end is told.
            if not (isinstance(action, DeleteObject) and self.deliveries.owes(key)):
                learnt = await self._act(learnt, action)
        if learnt is not world:
            decision = decide(learnt, self.rules)
            self.turns.add_at(key, self.clock() + _AGAIN, self.clock())
        if decision.again is not None:
            self.turns.add_at(key, decision.again, self.clock())
        status = decision.status.model_copy(update={"notified": notified})
        await self._write(about, seen.version, world.status, status)

    async def _refuse(self, seen: Excerpt, about: JobReference, error: ValidationError) -> None:
        """Say that a spec cannot be read; a status that cannot, another version has written: it is left alone."""
        log.error("%s/%s cannot be read: %s", seen.namespace, seen.name, error)
        try:
            before = JobStatus.model_validate_json(seen.status)
        except ValidationError:
            return
        jobs = self.cache.jobs_of((seen.namespace, seen.name), seen.uid)
        live = [job for job in jobs if not job.ended]
        for action in waiting(live):
            await self._delete(seen.namespace, action)
        said = unreadable(before, error, seen.generation, self.clock(), live=bool(live))
        await self._write(about, seen.version, before, said)

    async def _delete(self, namespace: str, action: DeleteJob) -> None:
        try:
            await self.kube.delete_job(namespace, action.name, action.uid, action.version)
        except (Absent, Conflict, Refused) as error:
            log.info("%s/%s: it is not deleted: %s", namespace, action.name, error)

    async def _act(self, world: World, action: Action) -> World:
        """Do it; the world with what the API server said against a Job, the same where it said nothing.

        Where it knows better than the cache, what has changed comes, or has come, as an event.
        """
        try:
            if isinstance(action, CreateJob):
                made = await self.kube.create_job(action.job)
                self._answered(JOBS, made)
                self.cache.see_job(made)
            elif isinstance(action, DeleteJob):
                await self.kube.delete_job(world.namespace, action.name, action.uid, action.version)
            else:
                await self.kube.delete_object(world.namespace, world.name, world.uid)
        except (Absent, Conflict) as error:
            log.info("%s/%s: %s: %s", world.namespace, world.name, type(action).__name__, error)
            return await self._with_job_of_others(world, action) if isinstance(action, CreateJob) else world
        except Refused as error:
            log.warning("%s/%s: %s: %s", world.namespace, world.name, type(action).__name__, error.message)
            if isinstance(action, CreateJob):
                said = (error.status not in _NEVER, error.message)
                return replace(world, refused={**world.refused, action.stage: said})
        return world

    async def _with_job_of_others(self, world: World, action: CreateJob) -> World:
        """The world with the Job of others that has the name: one without our labels is watched by nobody here."""
        name = action.job["metadata"]["name"]
        try:
            body = await self.kube.job_named(world.namespace, name)
        except Refused as error:
            log.info("%s/%s: whose %s is cannot be seen: %s", world.namespace, world.name, name, error.message)
            return world
        job = None if body is None else stage_job_of(body)
        if job is None or job.owner == world.uid:
            return world
        return replace(world, jobs={**world.jobs, name: job})

    async def _write(self, about: JobReference, version: int, before: JobStatus, status: JobStatus) -> None:
        if status == before:
            return
        key, body = (about.namespace, about.name), status_body(status, before)
        try:
            # The event of this write is no news to the cache, and what follows from it is the next pass's; of one that
            # has changed nothing, nothing follows.
            written = await self.kube.write_status(*key, version, body)
            self._answered(OBJECTS, written)
            if self.cache.see_object(written) is not None:
                self.turns.add(key)
            self.metrics.jobs.count(history(before, status, self.cache.jobs_of(key, about.uid)), self.clock())
            for notice in notices(before, status):
                await self._tell(about, notice)
        except Absent:
            self.cache.lose_object(key)
        except Conflict:
            # Whoever has changed it has caused an event, which gives this job another turn.
            log.info("%s/%s: the status has changed meanwhile", *key)

    def _answered(self, path: str, body: Mapping[str, Any]) -> None:
        """A watch has to tell of what was just written."""
        self.freshness.answered(self.clock())
        self.freshness.known(resource_of(path), body["metadata"]["namespace"], version_of(body), self.clock())

    async def _tell(self, about: JobReference, notice: Notice) -> None:
        """Events are a courtesy: what is not told this time is not told, and stands in the status all the same."""
        try:
            await self.kube.create_event(about.namespace, event_of(about, notice, self.clock()))
        except (Absent, Refused) as error:
            log.info("%s/%s: an event is refused: %s", about.namespace, about.name, error)


def status_body(status: JobStatus, before: JobStatus) -> dict[str, Any]:
    """The status as a merge patch."""
    return _merge_patch(status.to_json_dict(), before.to_json_dict())


def _merge_patch(after: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the one out of the other: null for what is not there any more, within objects too (RFC 7396)."""
    body: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    for name, value in after.items():
        known = before.get(name)
        body[name] = _merge_patch(value, known) if isinstance(value, dict) and isinstance(known, dict) else value
    return body
