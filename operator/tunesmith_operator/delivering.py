"""Notifications on their way: posted beside the passes, again until they are taken, and then recorded in the status."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout

from tunesmith_operator.cache import Key
from tunesmith_operator.telling import Patience, Tale, next_tale, tale
from tunesmith_operator.turns import Turns
from tunesmith_operator.world import World

log = logging.getLogger(__name__)

_TIMEOUT = ClientTimeout(total=10.0)
# Pauses between two tries: a receiver that is started anew is there within seconds, one that is mended within hours.
_SHORTEST, _LONGEST = timedelta(seconds=5), timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Sink:
    """Where notifications go. `key` is a file with what they are signed with; it is read each time, being renewed."""

    url: str
    key: Path | None = None

    async def post(self, told: Tale, now: datetime) -> str:
        """Empty if the receiver has taken it, else why not; never the address, which may hold a password."""
        try:
            headers = {"Content-Type": "application/cloudevents+json", **self.signed(told, now)}
        except (OSError, ValueError) as error:
            return f"the key to sign it with cannot be read ({type(error).__name__})"
        try:
            # trust_env: the proxy that the operator's pod was given.
            async with (
                ClientSession(timeout=_TIMEOUT, trust_env=True) as session,
                session.post(self.url, data=told.body, headers=headers, allow_redirects=False) as answer,
            ):
                return "" if answer.ok and answer.status < 300 else f"it answered {answer.status}"  # noqa: PLR2004
        except (ClientError, TimeoutError, OSError) as error:
            return type(error).__name__

    def signed(self, told: Tale, now: datetime) -> dict[str, str]:
        """The headers of the Standard Webhooks specification: id, time and, with a key, an HMAC over both and body."""
        time = str(int(now.timestamp()))
        headers = {"webhook-id": told.id, "webhook-timestamp": time}
        if self.key is not None:
            secret = self.key.read_text().strip().removeprefix("whsec_")
            content = b".".join((told.id.encode(), time.encode(), told.body))
            digest = hmac.new(base64.b64decode(secret), content, hashlib.sha256).digest()
            headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
        return headers


@dataclass(slots=True)
class _Delivery:
    """One that is to be taken: whether it was, and when it is tried again if not."""

    told: Tale
    again: datetime
    pause: timedelta = _SHORTEST
    taken: bool = False
    task: "asyncio.Task[None] | None" = None


@dataclass(slots=True)
class Deliveries:
    """Of each job at most one is on its way: the newest that there is to tell. Without a sink nothing is told."""

    sink: Sink | None = None
    patience: Patience = field(default_factory=lambda: Patience(timedelta(minutes=30), None))
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    counted: Counter[str] = field(default_factory=Counter)
    _by_job: dict[Key, _Delivery] = field(default_factory=dict)

    def recorded(self, world: World, turns: Turns) -> str:
        """What `status.notified` is to be; what has not been taken yet is sent, and gives the job a turn when it is."""
        key = (world.namespace, world.name)
        told = None if self.sink is None else tale(world, self.patience)
        if self.sink is None or told is None:
            self.forget(key)
            self._wake(world, turns)
            return world.status.notified
        known = self._by_job.get(key)
        if known is None or known.told.id != told.id:
            self.forget(key)
            known = self._by_job[key] = _Delivery(told, world.now)
        if known.taken:
            return told.id
        if known.task is None and world.now >= known.again:
            known.task = asyncio.create_task(self._send(self.sink, known))
            known.task.add_done_callback(partial(self._sent, key, known, turns))
        return world.status.notified

    def forget(self, key: Key) -> None:
        """That job is gone, or has nothing to be told."""
        known = self._by_job.pop(key, None)
        if known is not None and known.task is not None:
            known.task.cancel()

    def _wake(self, world: World, turns: Turns) -> None:
        moment = None if self.sink is None else next_tale(world, self.patience)
        if moment is not None:
            turns.add_at((world.namespace, world.name), moment, world.now)

    async def _send(self, sink: Sink, delivery: _Delivery) -> None:
        why = await sink.post(delivery.told, self.clock())
        self.counted["Failed" if why else "Delivered"] += 1
        delivery.taken = not why
        if why:
            log.warning("a notification (%s) was not taken: %s", delivery.told.outcome, why)
            delivery.again = self.clock() + delivery.pause
            delivery.pause = min(delivery.pause * 2, _LONGEST)

    def _sent(self, key: Key, delivery: _Delivery, turns: Turns, done: "asyncio.Task[None]") -> None:
        delivery.task = None
        with contextlib.suppress(asyncio.CancelledError):
            done.result()
            if delivery.taken:
                turns.add(key)
            else:
                turns.add_at(key, delivery.again, self.clock())
