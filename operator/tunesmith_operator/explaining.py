"""What Kubernetes has said last of a Job that has no pod, or of a pod that does not start: a warning in an event.

A quota, an absent ServiceAccount, a ConfigMap that cannot be mounted stand in no field of theirs. Events are asked for
only then, and ever more rarely the longer it lasts: the API server searches all events of the namespace for each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tunesmith_operator.cache import Key
from tunesmith_operator.kube import Absent, Kube, Refused
from tunesmith_operator.silence import pause, silent
from tunesmith_operator.world import World


@dataclass(slots=True)
class Explained:
    """What was said of what in each job that waits, and until when that is enough."""

    _known: dict[Key, dict[str, tuple[datetime, str]]] = field(default_factory=dict)

    async def warnings(self, world: World, kube: Kube) -> dict[str, str]:
        """What has been said, by the UID of Job or pod; asked for where it is time."""
        key, told = (world.namespace, world.name), {}
        known = self._known.pop(key, {})
        for uid, since in silent(world):
            until, warning = known.get(uid, (world.now, ""))
            if world.now >= until:
                warning = await _warning(kube, world.namespace, uid)
                until = world.now + pause(since, world.now)
            told[uid] = (until, warning)
        if told:
            self._known[key] = told
        return {uid: warning for uid, (_, warning) in told.items() if warning}

    def forget(self, key: Key) -> None:
        """That job is gone."""
        self._known.pop(key, None)


async def _warning(kube: Kube, namespace: str, uid: str) -> str:
    try:
        return last_warning([event async for event in kube.events_of(namespace, uid)])
    except (Absent, Refused):  # a courtesy, as own events are
        return ""


def last_warning(events: list[Mapping[str, Any]]) -> str:
    """The note of the newest event (events.k8s.io/v1) if that is a warning: what was said before it is over."""
    newest = max(events, key=_time_of, default=None)
    return str(newest.get("note", "")).strip() if newest is not None and newest.get("type") == "Warning" else ""


def _time_of(event: Mapping[str, Any]) -> str:
    """When it was seen last; RFC 3339 in UTC sorts as text, up to fractions within one second."""
    series = event.get("series") or {}
    moments = (series.get("lastObservedTime"), event.get("deprecatedLastTimestamp"), event.get("eventTime"))
    return str(next((moment for moment in moments if moment), event["metadata"].get("creationTimestamp") or ""))
