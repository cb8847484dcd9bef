"""What a job waits for and says so, what it does not wait for, and why its pods have failed."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.builders import a_spec
from support.small_cluster import ROWS, SETTINGS, Cluster, failed_text, job_of, one_pass, settle, until
from tunesmith_api.failures import FailureClass
from tunesmith_api.status import StageState
from tunesmith_operator.world import Ended, JobState, StagePod

INTERRUPTED, MINUTE = FailureClass.INTERRUPTED, timedelta(minutes=1)
TWO_TYPES = ("Q4_K_M", "Q8_0")


@pytest.fixture
def cluster() -> Cluster:
    """A job of two quantizations that nobody has seen yet."""
    return Cluster(spec=a_spec(datasets=ROWS, quantizations=list(TWO_TYPES)))


def state_of(cluster: Cluster, stage: str) -> StageState:
    """What the status says of a stage."""
    return next(each.state for each in cluster.status.stages if each.name == stage)


def test_the_newest_pod_says_why(cluster: Cluster) -> None:
    """One that was drained before it has said something else, and the kernel lets nobody say anything."""
    until(cluster, "train")
    name = job_of(cluster, "train")
    drained = StagePod("first", "u1", cluster.now, ended=Ended(143, "Error", failed_text("train", INTERRUPTED)))
    killed = StagePod("second", "u2", cluster.now + MINUTE, ended=Ended(137, "OOMKilled", ""))
    cluster.jobs[name] = replace(cluster.jobs[name], state=JobState.FAILED, pods=(drained, killed))

    assert settle(cluster).failure.failure is FailureClass.OUT_OF_MEMORY


def test_patience_with_an_image_begins_when_the_pod_has_its_node(cluster: Cluster) -> None:
    """However long it waited for one."""
    one_pass(cluster)
    name = job_of(cluster, "prepare")
    pod = StagePod("pod", "u", cluster.now, scheduled=cluster.now + 60 * MINUTE, waiting=("ErrImagePull", "503"))
    cluster.jobs[name] = replace(cluster.jobs[name], pods=(pod,))
    cluster.now += 61 * MINUTE

    decision = one_pass(cluster)
    assert cluster.status.failure is None
    assert decision.again == cluster.now - MINUTE + SETTINGS.image_patience


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        ({"disrupted": "EvictionByEvictionAPI"}, "is taken away (EvictionByEvictionAPI)"),
        ({"ended": Ended(24, "Error", "")}, "has failed (StoreUnavailable) and is tried again"),
        (
            {"ended": Ended(24, "Error", failed_text("train", FailureClass.STORE_UNAVAILABLE))},
            "has failed (StoreUnavailable: it failed) and is tried again",
        ),
        ({"ended": Ended(137, "OOMKilled", "")}, "has failed (OutOfMemory) and is tried again"),
        ({"ended": Ended(137, "Error", ""), "disrupted": "PreemptionByScheduler"}, "is taken away (Preemption"),
        ({"ended": Ended(139, "Error", "")}, "has failed (exit code 139) and is tried again"),
    ],
)
def test_what_a_job_tries_again_by_itself_is_told(cluster: Cluster, pod: dict[str, Any], said: str) -> None:
    """Between two pods nothing runs."""
    until(cluster, "train")
    name = job_of(cluster, "train")
    cluster.jobs[name] = replace(
        cluster.jobs[name], pods=(StagePod("p", "u", cluster.now, started=cluster.now, **pod),)
    )
    one_pass(cluster)

    assert said in cluster.status.message
    assert state_of(cluster, "train") is StageState.WAITING


def test_a_job_of_others_with_the_name_is_told(cluster: Cluster) -> None:
    """Nothing but a person can take it away."""
    one_pass(cluster)
    name = job_of(cluster, "prepare")
    cluster.jobs[name] = replace(cluster.jobs[name], owner="somebody")
    one_pass(cluster)

    assert cluster.status.message == f"prepare: a Job that is not its own has its name: delete {name}"


def test_a_failure_does_not_wait_for_what_has_not_begun(cluster: Cluster) -> None:
    """A pod that finds no node may find none for days."""
    until(cluster, "baseline")
    waits = next(each for each in ("evaluate", "imatrix") if any(job.stage == each for job in cluster.jobs.values()))
    name = job_of(cluster, waits)
    cluster.jobs[name] = replace(cluster.jobs[name], state=JobState.PENDING, started=None, pods=())
    cluster.fail(job_of(cluster, "baseline"), FailureClass.INTERNAL)
    one_pass(cluster)
    one_pass(cluster)

    assert cluster.jobs[name].deleting


def test_while_it_is_being_suspended_it_says_so(cluster: Cluster) -> None:
    """A large checkpoint takes minutes."""
    until(cluster, "train")
    cluster.edit(suspend=True)
    one_pass(cluster)
    one_pass(cluster)

    assert cluster.status.message == "being suspended: what runs saves what it has, and ends"
