"""What Kubernetes says in events of what is silent: asked for beside the passes, and of no harm where it fails."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from support.small_cluster import Cluster, one_pass
from tunesmith_operator.explaining import Explained, last_warning
from tunesmith_operator.kube import Refused
from tunesmith_operator.turns import Turns
from tunesmith_operator.world import Warned, World

SECOND = timedelta(seconds=1)


def an_event(note: str, type_: str = "Warning") -> dict[str, Any]:
    """Of the moment."""
    return {"type": type_, "note": note, "eventTime": "2026-11-27T12:00:09.000000Z", "metadata": {}}


@dataclass
class Events:
    """The part of `Kube` that is asked: what it answers, and of whom it was asked."""

    answer: Callable[[], list[dict[str, Any]]]
    asked: list[str] = field(default_factory=list)

    async def events_of(self, namespace: str, uid: str) -> AsyncIterator[dict[str, Any]]:
        self.asked.append(f"{namespace}/{uid}")
        for event in self.answer():
            yield event


def silent_world() -> World:
    """prepare's Job has had no pod for eleven seconds."""
    cluster = Cluster()
    one_pass(cluster)
    cluster.now += 11 * SECOND
    return cluster.world()


def later(world: World, seconds: int) -> World:
    """The same, some time after."""
    return replace(world, now=world.now + seconds * SECOND)


async def seen(explained: Explained, world: World, events: Events, turns: Turns) -> dict[str, Warned]:
    """What is known once what was asked has been answered."""
    explained.warnings(world, events, turns)
    while explained._asking:
        await asyncio.wait(explained._asking.values())
    return explained.warnings(world, events, turns)


def test_an_answer_gives_the_job_a_turn_and_is_kept() -> None:
    """It is asked again as long after as it has lasted; the first moment of a warning stays."""

    async def told() -> None:
        world, turns, explained = silent_world(), Turns(), Explained()
        (job,) = world.own_jobs
        notes = iter(["no quota", "no quota", "no account", ""])
        events = Events(lambda: [an_event(next(notes))])
        assert await seen(explained, world, events, turns) == {job.uid: Warned(world.now, "no quota")}
        assert len(turns) == 1
        assert await seen(explained, later(world, 5), events, turns) == {job.uid: Warned(world.now, "no quota")}
        assert len(events.asked) == 1
        await seen(explained, later(world, 12), events, turns)
        assert (await seen(explained, later(world, 60), events, turns))[job.uid] == Warned(world.now, "no account")
        assert await seen(explained, later(world, 600), events, turns) == {}

    asyncio.run(told())


def test_an_api_server_that_does_not_answer_harms_nothing() -> None:
    """It is asked again."""

    async def told() -> None:
        for error in (TimeoutError(), Refused(403, "events is forbidden"), OSError("reset")):
            world, turns, explained = silent_world(), Turns(), Explained()

            def fail(error: Exception = error) -> list[dict[str, Any]]:
                raise error

            events = Events(fail)
            assert await seen(explained, world, events, turns) == {}
            assert len(turns) == 0
            await seen(explained, later(world, 60), events, turns)
            assert len(events.asked) == 2

    asyncio.run(told())


def test_what_is_gone_is_forgotten() -> None:
    """A job, and a Job that has its pod."""

    async def told() -> None:
        world, turns, explained = silent_world(), Turns(), Explained()
        events = Events(lambda: [an_event("no quota")])
        assert await seen(explained, world, events, turns)
        explained.warnings(replace(world, jobs={}), events, turns)
        assert explained._looks == {}
        assert await seen(explained, world, events, turns)
        explained.forget((world.namespace, world.name))
        assert explained._looks == {}

    asyncio.run(told())


def test_a_warning_that_is_over_is_not_told() -> None:
    """Of all events the newest counts."""
    mount = {"type": "Warning", "note": "configmap not found", "deprecatedLastTimestamp": "2026-11-27T12:00:05Z"}
    pulling = {"type": "Normal", "note": "Pulling image", "eventTime": "2026-11-27T12:00:09.000000Z"}
    later = {**mount, "series": {"lastObservedTime": "2026-11-27T12:01:00.000000Z", "count": 2}}
    meta = {"metadata": {"creationTimestamp": "2026-11-27T12:00:00Z"}}

    assert last_warning([mount | meta]) == "configmap not found"
    assert last_warning([pulling | meta, mount | meta]) == ""
    assert last_warning([later | meta, pulling | meta]) == "configmap not found"
    assert last_warning([]) == ""


def test_a_pod_that_could_not_be_made_is_not_named() -> None:
    """It has another name each time, and each would be a write."""
    note = 'Error creating: pods "bot-train-1-x7k2p" is forbidden: exceeded quota: small'

    assert last_warning([an_event(note)]) == "Error creating: pods is forbidden: exceeded quota: small"
