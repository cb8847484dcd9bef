"""What the operator keeps of events, and whose turn it is then."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from support.bodies import a_body
from support.small_cluster import NOON, RULES
from tunesmith_operator.cache import Cache
from tunesmith_operator.filling import fill
from tunesmith_operator.kube import JOBS
from tunesmith_operator.loop import Operator
from tunesmith_operator.turns import Turns
from tunesmith_operator.world import JobState

KEY = ("team", "bot")
SPEC = {"model": {"source": "hf://org/model"}, "datasets": [{"source": "s3://a/b.jsonl"}]}


def filled() -> Cache:
    """A job, its Job and its pod."""
    cache = Cache()
    cache.see_object(a_body("bot", 1, spec=SPEC))
    cache.see_job(a_body("bot-train-0", 2, owner="bot"))
    cache.see_pod(a_body("bot-train-0-x", 3, owner="bot-train-0"))
    return cache


def test_a_world_is_put_together_from_all_that_belongs_to_a_job() -> None:
    """Jobs by the label, pods by the Job's UID."""
    world = filled().world(KEY, NOON)

    (job,) = world.own_jobs
    assert (job.name, job.stage, job.state, len(job.pods)) == ("bot-train-0", "train", JobState.PENDING, 1)


def test_an_event_that_is_not_newer_gives_nobody_a_turn() -> None:
    """Replayed after a reconnect, or older than the answer to an own write."""
    cache = filled()

    assert cache.see_object(a_body("bot", 1, spec=SPEC)) is None
    assert cache.see_job(a_body("bot-train-0", 1, owner="bot")) is None
    assert cache.see_pod(a_body("bot-train-0-x", 3, owner="bot-train-0")) is None
    assert cache.see_job(a_body("bot-train-0", 9, owner="bot")) == KEY


def test_what_is_gone_is_gone_unless_another_has_its_name() -> None:
    """A late DELETED of the one before does not take the one that is there."""
    cache = filled()
    cache.see_job(a_body("bot-train-0", 5, uid="another", owner="bot"))
    cache.see_job(a_body("bot-train-0", 4, owner="bot"), gone=True)
    assert cache.has_jobs(KEY)
    cache.see_job(a_body("bot-train-0", 6, uid="another", owner="bot"), gone=True)
    assert not cache.has_jobs(KEY)
    cache.see_object(a_body("bot", 7), gone=True)
    assert KEY not in cache.objects


def test_a_job_waits_once_and_new_ones_go_first() -> None:
    """What changes while it is in work gives it one more turn, however often it changes."""

    async def order() -> list[str]:
        turns = Turns()
        for name in ("a", "b", "a"):
            turns.add(("team", name))
        turns.add(("team", "new"), first=True)
        taken = [await turns.take() for _ in range(3)]
        turns.add(taken[1])
        turns.add(taken[1])
        assert len(turns) == 1
        turns.done(taken[1])
        again = await turns.take()
        return [name for _, name in (*taken, again)]

    assert asyncio.run(order()) == ["new", "a", "b", "a"]


def test_the_earliest_alarm_rings() -> None:
    """A later one for the same job gives way; time alone then brings its turn."""

    async def rung() -> str:
        turns, now = Turns(), datetime.now(UTC)
        turns.add_at(KEY, now + timedelta(hours=1), now)
        turns.add_at(KEY, now, now)
        turns.add_at(KEY, now + timedelta(hours=2), now)
        return (await turns.take())[1]

    assert asyncio.run(asyncio.wait_for(rung(), 60)) == "bot"


class ListOf:
    """An API server whose list was made some moments before it is read."""

    def __init__(self, bodies: dict[str, list[dict[str, Any]]], meanwhile: Callable[[], object]) -> None:
        self.bodies = bodies
        self.meanwhile = meanwhile

    async def list_everywhere(self, path: str, *_: object) -> AsyncIterator[dict[str, Any]]:
        """What it was; what has become of it is told before the first of it arrives."""
        if self.bodies.get(path):
            self.meanwhile()
        for body in self.bodies.get(path, []):
            yield body


def test_what_goes_while_it_is_listed_does_not_come_back() -> None:
    """The event that tells of its end is newer than the list that has it."""
    cache = filled()
    job = a_body("bot-train-0", 2, owner="bot")
    listing: Any = ListOf({JOBS: [job]}, lambda: cache.see_job(job, gone=True))
    asyncio.run(fill(Operator(cache, Turns(), listing, RULES), ()))

    assert not cache.has_jobs(KEY)
