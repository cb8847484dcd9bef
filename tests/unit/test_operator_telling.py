"""What is told of a job, and when; once for each end and each standstill."""

import json
from datetime import timedelta

import pytest

from support.builders import a_spec
from support.small_cluster import NOON, ROWS, Cluster, job_of, one_pass, settle, until
from tunesmith_api.failures import FailureClass
from tunesmith_operator.telling import Patience, Tale, next_tale, tale

HALF_AN_HOUR = timedelta(minutes=30)
PATIENCE = Patience(HALF_AN_HOUR, NOON)


@pytest.fixture
def cluster() -> Cluster:
    """A job that nobody has seen yet."""
    return Cluster(spec=a_spec(datasets=ROWS, quantizations=["Q8_0"]))


def told(cluster: Cluster, patience: Patience = PATIENCE) -> Tale:
    found = tale(cluster.world(), patience)
    assert found is not None
    return found


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
    assert tale(cluster.world(), PATIENCE) is None
    cluster.edit(backoffLimit=7)
    settle(cluster)
    assert tale(cluster.world(), PATIENCE) is None
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

    assert tale(cluster.world(), PATIENCE) is None


def test_a_stage_that_waits_too_long_is_told_with_what_it_waits_for(cluster: Cluster) -> None:
    """At the moment that it says itself."""
    one_pass(cluster)
    began = cluster.now

    assert tale(cluster.world(), PATIENCE) is None
    assert next_tale(cluster.world(), PATIENCE) == began + HALF_AN_HOUR
    cluster.now += HALF_AN_HOUR
    found = told(cluster)
    assert (found.outcome, found.time) == ("stuck", began)
    assert json.loads(found.body)["data"]["message"].startswith("prepare waits: ")


def test_a_pod_that_says_nothing_is_told_where_it_could_be_heard(cluster: Cluster) -> None:
    """Since it was heard last, or this operator began to listen: what was said before nobody knows."""
    until(cluster, "train")
    began = cluster.now
    cluster.now += HALF_AN_HOUR

    assert told(cluster).outcome == "stuck"
    assert tale(cluster.world(), Patience(HALF_AN_HOUR, None)) is None
    assert tale(cluster.world(), Patience(HALF_AN_HOUR, began + timedelta(minutes=1))) is None
    cluster.tell(job_of(cluster, "train"), 5)
    assert tale(cluster.world(), PATIENCE) is None


def test_what_kueue_holds_is_not_stuck(cluster: Cluster) -> None:
    """It waits for its turn, and its queue knows."""
    one_pass(cluster)
    name = job_of(cluster, "prepare")
    cluster._change(name, suspended=True)
    cluster.now += HALF_AN_HOUR

    assert tale(cluster.world(), PATIENCE) is None
