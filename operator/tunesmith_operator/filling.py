"""The cache is filled before the first pass, and looked through now and then: what no event told is seen then."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith_api.names import JOB_LABEL
from tunesmith_operator.cache import Cache, Key, SeenJob, SeenPod
from tunesmith_operator.excerpts import Excerpt, version_of
from tunesmith_operator.kube import JOBS, OBJECTS, PODS, resource_of
from tunesmith_operator.loop import Operator

log = logging.getLogger(__name__)

# Seconds. Watches tell of everything within a moment, and one that is dead is noticed after 90 seconds (watching.py):
# this is for what both have missed, and costs three lists.
_EVERY = 600.0


@dataclass(frozen=True, slots=True)
class _Kind:
    path: str
    label: str
    known: Mapping[Key, Excerpt | SeenJob | SeenPod]
    see: Callable[[Mapping[str, Any]], Key | None]
    lose: Callable[[Key], Key | None]


def _kinds(cache: Cache) -> tuple[_Kind, ...]:
    """What belongs to jobs first, then the jobs: none is looked at before all that it has is known.

    Pods after Jobs: of a Job that has ended it has to be known how.
    """
    return (
        _Kind(JOBS, JOB_LABEL, cache.jobs, cache.see_job, cache.lose_job),
        _Kind(PODS, JOB_LABEL, cache.pods, cache.see_pod, cache.lose_pod),
        _Kind(OBJECTS, "", cache.objects, cache.see_object, cache.lose_object),
    )


async def fill(operator: Operator, namespaces: Sequence[str], *, watched: bool = False) -> None:
    """See all that there is, and lose what is not there any more; whom it concerns gets a turn.

    What is new where all is `watched` already, the watches have to tell too.
    """
    for kind in _kinds(operator.cache):
        before = {key: seen.version for key, seen in kind.known.items()}
        listed: set[Key] = set()
        async for body in operator.kube.list_everywhere(kind.path, namespaces, kind.label):
            key = (body["metadata"]["namespace"], body["metadata"]["name"])
            listed.add(key)
            # What has gone while the list was on its way stands in it all the same.
            if key not in before or key in kind.known:
                owner = kind.see(body)
                _turn(operator, kind, owner)
                if watched and owner is not None:
                    now = operator.clock()
                    operator.freshness.known(resource_of(kind.path), key[0], version_of(body), now)
            operator.freshness.answered(operator.clock())
        for key in before.keys() - listed:
            # What has changed while the list was on its way was there after it was made.
            if key in kind.known and kind.known[key].version == before[key]:
                _turn(operator, kind, kind.lose(key))


async def look_through(operator: Operator, namespaces: Sequence[str]) -> None:
    """Fill again and again, until cancelled."""
    while True:
        await asyncio.sleep(_EVERY)
        try:
            await fill(operator, namespaces, watched=True)
        except Exception:  # an API server that is away must not end this task
            log.exception("what there is could not be listed; it is tried again in %d seconds", _EVERY)


def _turn(operator: Operator, kind: _Kind, key: Key | None) -> None:
    if key is not None:
        operator.turns.add(key, first=kind.path == OBJECTS and not operator.cache.has_jobs(key))
