"""spec.priority: of jobs that wait for the same GPU the highest goes first."""

from dataclasses import replace

import pytest

from support.builders import a_spec
from support.small_cluster import NOON, ROWS, Cluster, job_of, one_pass, until
from tunesmith_api.status import Phase
from tunesmith_operator.ranking import LOOK_EVERY, Rival, outranked_by
from tunesmith_operator.world import JobState, StagePod

GPU = "nvidia.com/gpu"
FULL = f"0/2 nodes are available: 1 Insufficient memory, 1 Insufficient {GPU}."


@pytest.fixture
def cluster() -> Cluster:
    """A job whose training waits for a GPU."""
    cluster = Cluster(spec=a_spec(datasets=ROWS, quantizations=["Q8_0"], training={"gpu": {}}))
    until(cluster, "train")
    waits(cluster, FULL)
    return cluster


def waits(cluster: Cluster, words: str) -> None:
    """The scheduler says so of the training's pod."""
    name = job_of(cluster, "train")
    pod = StagePod("pod", "uid", NOON, unschedulable=words)
    cluster.jobs[name] = replace(cluster.jobs[name], state=JobState.PENDING, pods=(pod,))


def a_rival(cluster: Cluster, priority: int, words: str = FULL) -> Rival:
    """A job whose training is where the scheduler says."""
    waits(cluster, words)
    return Rival(f"rival-{priority}", priority, cluster.jobs[job_of(cluster, "train")])


def test_the_highest_that_waits_for_a_gpu_is_before_all_lower_ones(cluster: Cluster) -> None:
    """Those of the same priority, or that have their node, or that no GPU would help, keep nobody back."""
    assert outranked_by(0, [a_rival(cluster, 1), a_rival(cluster, 5), a_rival(cluster, 3)], GPU) == "rival-5"
    assert outranked_by(5, [a_rival(cluster, 5)], GPU) == ""
    assert outranked_by(0, [a_rival(cluster, 5, "")], GPU) == ""
    assert outranked_by(0, [a_rival(cluster, 5, "0/2 nodes are available: 2 Insufficient memory.")], GPU) == ""


def test_one_that_is_outranked_leaves_the_queue_and_comes_back(cluster: Cluster) -> None:
    """Its Job waits for a node no more; it is made again when the other has its GPU."""
    above = replace(cluster.world(), outranked_by="urgent")
    one_pass(cluster, above)
    cluster.collect()
    decision = one_pass(cluster, replace(cluster.world(), outranked_by="urgent"))

    assert decision.actions == ()
    assert decision.again == cluster.now + LOOK_EVERY
    said = "train: waits for its turn: urgent has a higher spec.priority and waits for a GPU"
    assert (cluster.status.phase, cluster.status.message) == (Phase.RUNNING, said)
    until(cluster, "train")
    assert cluster.status.stages[1].turn == 0


def test_one_that_trains_goes_on(cluster: Cluster) -> None:
    """Nobody is put out."""
    cluster.start(job_of(cluster, "train"))

    assert one_pass(cluster, replace(cluster.world(), outranked_by="urgent")).actions == ()


def test_one_that_needs_no_gpu_is_in_nobody_s_way() -> None:
    """It waits for other things."""
    cluster = Cluster(spec=a_spec(datasets=ROWS, quantizations=["Q8_0"]))
    until(cluster, "train")
    waits(cluster, "0/2 nodes are available: 2 Insufficient memory.")

    assert one_pass(cluster, replace(cluster.world(), outranked_by="urgent")).actions == ()
