"""Notifications on their way: posted beside the passes, again until they are taken, and then recorded in the status."""

import asyncio
import base64
import hashlib
import hmac
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout

from tunesmith_operator.cache import Key
from tunesmith_operator.telling import NEWS, Tale, ended, standing_still, stuck
from tunesmith_operator.turns import Turns
from tunesmith_operator.world import World

log = logging.getLogger(__name__)

_TIMEOUT = ClientTimeout(total=10.0)
# RFC 9110, 15.3: successful; another address (3xx) is not followed.
_TAKEN = range(200, 300)
# Posts at a time: a day's ends may have to be told of when notifications are turned on.
_AT_ONCE = 8
# The least that a key has (Standard Webhooks, specification, symmetric signatures).
_KEY_BYTES = 24
# Pauses between two tries: a receiver that is started anew is there within seconds, one that is mended within hours.
_SHORTEST, _LONGEST = timedelta(seconds=5), timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Sink:
    """Where notifications go, through a `proxy` where there is one.

    `key` is a file with what they are signed with; it is read each time, being renewed.
    """

    url: str
    key: Path | None = None
    proxy: str | None = None

    async def post(self, told: Tale) -> str:
        """Empty if the receiver has taken it, else why not; never the address, which may hold a password."""
        try:
            headers = {"Content-Type": "application/cloudevents+json", **self.signed(told, time.time())}
        except (OSError, ValueError) as error:
            return f"the key to sign it with cannot be read ({type(error).__name__})"
        try:
            async with (
                ClientSession(timeout=_TIMEOUT) as session,
                session.post(
                    self.url, data=told.body, headers=headers, proxy=self.proxy, allow_redirects=False
                ) as answer,
            ):
                return "" if answer.status in _TAKEN else f"it answered {answer.status}"
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            return type(error).__name__

    def signed(self, told: Tale, now: float) -> dict[str, str]:
        """The headers of the Standard Webhooks specification: id, time and, with a key, an HMAC over both and body.

        `now` are seconds since 1970. ValueError where the key is none.
        """
        moment = str(int(now))
        headers = {"webhook-id": told.id, "webhook-timestamp": moment}
        if self.key is not None:
            secret = base64.b64decode(self.key.read_text().strip().removeprefix("whsec_"), validate=True)
            if len(secret) < _KEY_BYTES:
                raise ValueError(len(secret))
            content = b".".join((told.id.encode(), moment.encode(), told.body))
            digest = hmac.new(secret, content, hashlib.sha256).digest()
            headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
        return headers


@dataclass(slots=True)
class _Delivery:
    """One that is to be taken: whether it was, and when it is tried again if not."""

    told: Tale
    again: datetime
    pause: timedelta = _SHORTEST
    taken: bool = False
    sending: bool = False


@dataclass(slots=True)
class Deliveries:
    """Of each job at most one is to be taken: the newest that there is to tell. Without a sink nothing is told.

    After `stuck_after` a job is told of that does not get on; pods are heard since `listening`.
    """

    sink: Sink | None = None
    stuck_after: timedelta = timedelta(minutes=30)
    listening: datetime | None = None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    counted: Counter[str] = field(default_factory=Counter)
    _by_job: dict[Key, _Delivery] = field(default_factory=dict)
    _since: dict[Key, dict[str, datetime]] = field(default_factory=dict)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    def recorded(self, world: World, turns: Turns) -> str:
        """What `status.notified` is to be; what has not been taken yet is sent, and gives the job a turn when it is."""
        key = (world.namespace, world.name)
        told = None if self.sink is None else ended(world) or self._stuck(world, turns)
        if self.sink is None or told is None:
            self._by_job.pop(key, None)
            return world.status.notified
        known = self._by_job.get(key)
        if known is None or known.told.id != told.id:
            known = self._by_job[key] = _Delivery(told, world.now)
        if known.taken:
            return told.id
        if not known.sending and world.now >= known.again:
            self._begin(self.sink, key, known, turns)
        elif not known.sending:
            # An alarm that came before this one has taken its place.
            turns.add_at(key, known.again, world.now)
        return world.status.notified

    def owes(self, key: Key) -> bool:
        """Whether something of this job has not been taken."""
        known = self._by_job.get(key)
        return known is not None and not known.taken

    def forget(self, key: Key) -> None:
        """That job is gone; what is on its way goes on."""
        self._by_job.pop(key, None)
        self._since.pop(key, None)

    @property
    def news_since(self) -> datetime | None:
        """Jobs that have ended since then may have to be told of; None where nobody is."""
        return None if self.sink is None else self.clock() - NEWS

    def _stuck(self, world: World, turns: Turns) -> Tale | None:
        """Of what does not get on the oldest, if that is old enough; else the job gets a turn when it is."""
        key = (world.namespace, world.name)
        before = self._since.pop(key, {})
        found = {still.which: still for still in standing_still(world, self.listening)}
        if not found:
            return None
        since = {which: still.since or before.get(which, world.now) for which, still in found.items()}
        self._since[key] = since
        which = min(since, key=lambda each: since[each])
        if world.now >= since[which] + self.stuck_after:
            return stuck(world, found[which], since[which])
        turns.add_at(key, since[which] + self.stuck_after, world.now)
        return None

    def _begin(self, sink: Sink, key: Key, delivery: _Delivery, turns: Turns) -> None:
        delivery.sending = True
        task = asyncio.create_task(self._send(sink, key, delivery, turns))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, sink: Sink, key: Key, delivery: _Delivery, turns: Turns) -> None:
        async with self._free:
            why = await sink.post(delivery.told)
        self.counted["Failed" if why else "Delivered"] += 1
        delivery.sending, delivery.taken = False, not why
        if why:
            log.warning("%s/%s: a notification (%s) was not taken: %s", *key, delivery.told.outcome, why)
            delivery.again = self.clock() + delivery.pause
            delivery.pause = min(delivery.pause * 2, _LONGEST)
            turns.add_at(key, delivery.again, self.clock())
        else:
            turns.add(key)
