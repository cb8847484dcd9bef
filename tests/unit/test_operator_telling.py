"""What is told of a job, and when; once for each end and each standstill, whatever becomes of who tells it."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from support.builders import a_spec
from support.sink import KEY, Receiver, receiver
from support.small_cluster import NOON, ROWS, Cluster, job_of, one_pass, settle, until
from support.waiting import wait_until
from tunesmith_api.failures import FailureClass
from tunesmith_api.status import StageState
from tunesmith_operator.delivering import Deliveries, Sink
from tunesmith_operator.telling import Tale, ended, standing_still, stuck
from tunesmith_operator.turns import Turns

HALF_AN_HOUR = timedelta(minutes=30)


@pytest.fixture
def cluster() -> Cluster:
    """A job that nobody has seen yet."""
    return Cluster(spec=a_spec(datasets=ROWS, quantizations=["Q8_0"]))


def told(cluster: Cluster) -> Tale:
    found = ended(cluster.world())
    assert found is not None
    return found


def still(cluster: Cluster, listening: datetime | None = NOON) -> list[tuple[datetime | None, str]]:
    return [(each.since, each.message) for each in standing_still(cluster.world(), listening)]


def record(cluster: Cluster, found: Tale) -> None:
    """Its receiver has taken it."""
    cluster.status = cluster.status.model_copy(update={"notified": found.id})


def test_an_end_is_told_once_however_often_it_is_looked_at(cluster: Cluster) -> None:
    """By another operator with the same id; an edit that changes nothing of the end is no news."""
    settle(cluster)
    first = told(cluster)

    assert first.outcome == "complete"
    assert told(cluster).id == first.id
    record(cluster, first)
    assert ended(cluster.world()) is None
    cluster.edit(backoffLimit=7)
    settle(cluster)
    assert ended(cluster.world()) is None
    cluster.edit(gates={"maxPerplexityIncrease": 9})
    cluster.now += timedelta(seconds=5)
    settle(cluster)
    assert told(cluster).id != first.id


def test_a_second_failure_after_a_retry_is_told_too(cluster: Cluster) -> None:
    """Though generation and outcome are the same."""
    seen = set()
    for attempt in ("", "1"):
        cluster.retry = attempt
        until(cluster, "train")
        cluster.now += timedelta(seconds=5)
        cluster.fail(job_of(cluster, "train"), FailureClass.TRAINING_DIVERGED)
        one_pass(cluster)
        found = told(cluster)
        assert json.loads(found.body)["data"]["failure"]["class"] == "TrainingDiverged"
        record(cluster, found)
        seen.add(found.id)
    assert len(seen) == 2


def test_an_end_of_long_ago_is_no_news(cluster: Cluster) -> None:
    """When notifications are turned on, all that has ended is there already."""
    settle(cluster)
    cluster.now += timedelta(days=2)

    assert ended(cluster.world()) is None


def test_what_waits_stands_still_since_its_pod_was_made(cluster: Cluster) -> None:
    """Its Job may have run for hours before; where there is no pod nothing seen says since when."""
    one_pass(cluster)
    assert still(cluster) == [(None, "prepare waits: its pod is being started")]
    until(cluster, "train")
    cluster.now += timedelta(hours=5)
    name = job_of(cluster, "train")
    first = next(iter(standing_still(cluster.world(), NOON))).which
    cluster.evict(name)
    one_pass(cluster)
    [(since, _)] = still(cluster)
    assert since is None
    assert next(iter(standing_still(cluster.world(), NOON))).which != first


def test_a_pod_that_says_nothing_stands_still_since_it_was_heard(cluster: Cluster) -> None:
    """Or since this operator listens; where nobody is heard, nobody is silent. Its id is the same in each operator."""
    until(cluster, "train")
    began = cluster.now
    cluster.now += HALF_AN_HOUR
    later = began + timedelta(minutes=1)

    assert [since for since, _ in still(cluster)] == [began]
    assert still(cluster, None) == []
    assert [since for since, _ in still(cluster, later)] == [later]
    tales = {stuck(cluster.world(), each, NOON) for at in (NOON, later) for each in standing_still(cluster.world(), at)}
    assert len({each.id for each in tales if each is not None}) == 1
    cluster.tell(job_of(cluster, "train"), 5)
    assert [since for since, _ in still(cluster)] == [cluster.now]


def test_what_cannot_have_a_job_stands_still_too(cluster: Cluster) -> None:
    """A quota of Jobs, a webhook, another's Job of its name: the record says it."""
    until(cluster, "train")
    cluster.vanish(job_of(cluster, "train"))
    stages = tuple(
        each.model_copy(update={"state": StageState.WAITING, "message": "its Job is refused: quota"})
        if each.name == "train"
        else each
        for each in cluster.status.stages
    )
    cluster.status = cluster.status.model_copy(update={"stages": stages})

    assert still(cluster) == [(None, "train waits: its Job is refused: quota")]


@pytest.mark.parametrize("by", ["Kueue", "its user"])
def test_what_is_held_on_purpose_does_not_stand_still(cluster: Cluster, by: str) -> None:
    """In a queue it waits for its turn; and once Kueue lets it in, its pod is young."""
    one_pass(cluster)
    name = job_of(cluster, "prepare")
    if by == "Kueue":
        cluster._change(name, suspended=True)
    else:
        cluster.edit(suspend=True)

    assert still(cluster) == []
    if by == "Kueue":
        cluster.now += timedelta(hours=5)
        cluster._change(name, suspended=False)
        assert [since for since, _ in still(cluster)] == [None]


@dataclass
class Watcher:
    """Deliveries and turns of an operator whose clock is the cluster's."""

    cluster: Cluster
    deliveries: Deliveries
    turns: Turns

    def look(self) -> str:
        return self.deliveries.recorded(self.cluster.world(), self.turns)

    async def until(self, sink: Receiver, refused: int) -> None:
        await asyncio.to_thread(wait_until, lambda: sink.refused >= refused, "the receiver to be asked", 60)


@pytest.fixture
def sink() -> Iterator[Receiver]:
    """Somebody who does not answer yet."""
    with receiver(away=True) as found:
        yield found


def watching(cluster: Cluster, sink: Receiver, folder: Path) -> Watcher:
    (folder / "key").write_text(KEY)
    deliveries = Deliveries(Sink(sink.url, folder / "key"), HALF_AN_HOUR, NOON, clock=lambda: cluster.now)
    return Watcher(cluster, deliveries, Turns())


def test_what_is_not_taken_is_posted_again_by_the_same_operator(
    cluster: Cluster, sink: Receiver, tmp_path: Path
) -> None:
    """Though an alarm that came before takes the place of its own; recorded once it is taken."""
    settle(cluster)

    async def look() -> None:
        watcher = watching(cluster, sink, tmp_path)
        assert watcher.look() == ""
        await watcher.until(sink, 1)
        cluster.now += timedelta(seconds=1)
        assert watcher.look() == ""
        assert ("team", "job") in watcher.turns._alarms
        assert watcher.deliveries.owes(("team", "job"))
        sink.away = False
        cluster.now += timedelta(seconds=10)
        watcher.look()
        assert await asyncio.wait_for(watcher.turns.take(), 60) == ("team", "job")
        assert watcher.look() == told(cluster).id
        assert not watcher.deliveries.owes(("team", "job"))

    asyncio.run(look())
    assert [each.get_id() for each in sink.taken] == [told(cluster).id]
    assert sink.refused == 1


def test_what_is_on_its_way_arrives_though_its_job_is_gone(cluster: Cluster, sink: Receiver, tmp_path: Path) -> None:
    """A job may be deleted the moment that it ends."""
    settle(cluster)
    sink.away = False

    async def look() -> None:
        watcher = watching(cluster, sink, tmp_path)
        watcher.look()
        watcher.deliveries.forget(("team", "job"))
        await asyncio.to_thread(wait_until, lambda: bool(sink.taken), "it to arrive", 60)

    asyncio.run(look())


def test_a_standstill_is_told_when_it_has_lasted(cluster: Cluster, sink: Receiver, tmp_path: Path) -> None:
    """Counted from when this operator first saw it where nothing else says since when; the job gets a turn then."""
    one_pass(cluster)
    sink.away = False

    async def look() -> None:
        watcher = watching(cluster, sink, tmp_path)
        watcher.look()
        assert not watcher.deliveries.owes(("team", "job"))
        assert ("team", "job") in watcher.turns._alarms
        cluster.now += HALF_AN_HOUR
        watcher.look()
        await asyncio.to_thread(wait_until, lambda: bool(sink.taken), "it to arrive", 60)

    asyncio.run(look())
    [event] = sink.taken
    assert event.get_type() == "dev.tunesmith.finetunejob.stuck"
    assert event.get_data()["message"] == "prepare waits: its pod is being started"


@pytest.mark.parametrize("key", ["", "whsec_", "a raw secret", "whsec_c2hvcnQ="])
def test_a_key_that_is_none_signs_nothing(cluster: Cluster, tmp_path: Path, key: str) -> None:
    """One that is empty or short would be everybody's."""
    settle(cluster)
    (tmp_path / "key").write_text(key)

    with pytest.raises(ValueError, match=r"."):
        Sink("http://nobody", tmp_path / "key").signed(told(cluster), 0)
    assert "cannot be read" in asyncio.run(Sink("http://nobody", tmp_path / "key").post(told(cluster)))


def test_the_signature_is_that_of_the_standard(cluster: Cluster, tmp_path: Path) -> None:
    """By its own library; another body has another."""
    settle(cluster)
    found = told(cluster)
    (tmp_path / "key").write_text(KEY)
    headers: dict[str, Any] = Sink("http://nobody", tmp_path / "key").signed(found, time.time())

    Webhook(KEY).verify(found.body.decode(), headers)
    with pytest.raises(Exception, match="signature"):
        Webhook(KEY).verify(found.body.decode() + " ", headers)
