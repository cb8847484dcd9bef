"""What Kubernetes has said last of a Job that has no pod, or of a pod that does not start: a warning in an event.

A quota, an absent ServiceAccount, a ConfigMap that cannot be mounted stand in no field of theirs. Events are asked for
only then, and ever more rarely the longer it lasts: the API server searches all events of the namespace for each. No
pass waits for the answer; what it changes gives the job another.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from tunesmith_operator.cache import Key
from tunesmith_operator.kube import Kube
from tunesmith_operator.silence import pause, silent
from tunesmith_operator.turns import Turns
from tunesmith_operator.world import Warned, World

log = logging.getLogger(__name__)

# A courtesy takes little of the API server: two questions at a time, which are given up after seconds.
_AT_ONCE, _SECONDS = 2, 10.0
# The Job controller names each pod that it could not make, and each by another name.
_POD_NAME = re.compile(r'(\b[Pp]ods?) "[^"]*"')


@dataclass(slots=True)
class _Look:
    """When it was asked last, and what came of it."""

    time: datetime
    warned: Warned | None = None


@dataclass(slots=True)
class Explained:
    """What is known of what is silent, by job and UID."""

    _looks: dict[Key, dict[str, _Look]] = field(default_factory=dict)
    _asking: dict[str, "asyncio.Task[bool]"] = field(default_factory=dict)
    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    def warnings(self, world: World, kube: Kube, turns: Turns) -> dict[str, Warned]:
        """What has been said, by the UID of Job or pod; where it is time to ask again, that is begun."""
        key, found = (world.namespace, world.name), dict(silent(world))
        known = {uid: look for uid, look in self._looks.pop(key, {}).items() if uid in found}
        if found:
            self._looks[key] = known
        for uid, since in found.items():
            look = known.setdefault(uid, _Look(since))
            if world.now >= look.time + pause(since, look.time) and uid not in self._asking:
                look.time = world.now
                asking = asyncio.create_task(self._ask(kube.events_of(world.namespace, uid), look))
                self._asking[uid] = asking
                asking.add_done_callback(partial(self._answered, uid, key, turns))
        return {uid: look.warned for uid, look in known.items() if look.warned is not None}

    def forget(self, key: Key) -> None:
        """That job is gone."""
        self._looks.pop(key, None)

    async def _ask(self, events: AsyncIterator[Mapping[str, Any]], look: _Look) -> bool:
        """Whether something else is said than before."""
        async with self._free, asyncio.timeout(_SECONDS):
            text = last_warning([event async for event in events])
        before = look.warned
        if text == ("" if before is None else before.text):
            return False
        since = look.time if before is None else before.since
        look.warned = Warned(since, text) if text else None
        return True

    def _answered(self, uid: str, key: Key, turns: Turns, done: "asyncio.Task[bool]") -> None:
        """A courtesy: where there is no answer it is asked again, and nothing else suffers."""
        self._asking.pop(uid, None)
        if done.cancelled():
            return
        if done.exception() is not None:
            log.info("%s/%s: its events cannot be read: %s", *key, done.exception())
        elif done.result():
            turns.add(key)


def last_warning(events: Sequence[Mapping[str, Any]]) -> str:
    """The note of the newest event (events.k8s.io/v1) if that is a warning: what was said before it is over."""
    newest = max(events, key=_time_of, default=None)
    if newest is None or newest.get("type") != "Warning":
        return ""
    return _POD_NAME.sub(r"\1", str(newest.get("note", "")).strip())


def _time_of(event: Mapping[str, Any]) -> str:
    """When it was seen last; RFC 3339 in UTC sorts as text, up to fractions within one second."""
    series = event.get("series") or {}
    moments = (series.get("lastObservedTime"), event.get("deprecatedLastTimestamp"), event.get("eventTime"))
    return str(next((moment for moment in moments if moment), event["metadata"].get("creationTimestamp") or ""))
