"""The events of a job: few, each once, and what a person wants to know."""

from dataclasses import replace
from typing import Any

import pytest

from support.builders import a_spec
from support.small_cluster import ROWS, Cluster, job_of, one_pass, settle, until
from tunesmith_api.failures import FailureClass
from tunesmith_api.status import JobStatus
from tunesmith_operator.notices import Notice, NoticeType, notices
from tunesmith_operator.world import StagePod


@pytest.fixture
def cluster() -> Cluster:
    """A job that nobody has seen yet."""
    return Cluster(spec=a_spec(datasets=ROWS, quantizations=["Q8_0"]))


def told_by(cluster: Cluster) -> tuple[Notice, ...]:
    """What a pass has to tell."""
    before = cluster.status
    one_pass(cluster)
    return notices(before, cluster.status)


def reasons(cluster: Cluster) -> list[str]:
    return [notice.reason for notice in told_by(cluster)]


def test_a_job_that_goes_well_tells_its_end(cluster: Cluster) -> None:
    """With how many files passed; that stages begin and end is in the status."""
    until(cluster, "publish")
    cluster.complete(job_of(cluster, "publish"))

    (told,) = told_by(cluster)
    assert (told.type, told.reason) == (NoticeType.NORMAL, "Complete")
    assert told.note == "all files are published, 1/1 passed their gates"
    assert told_by(cluster) == ()


@pytest.mark.parametrize("change", [{"quantizations": ["Q8_0", "Q6_K"]}, {"gates": {"maxPerplexityIncrease": 9}}])
def test_other_files_to_publish_are_no_failure_that_is_tried_again(cluster: Cluster, change: dict[str, Any]) -> None:
    """A person has asked for them, and the end will be told."""
    settle(cluster)
    cluster.edit(**change)

    assert "BegunAnew" not in reasons(cluster)
    assert cluster.status.stages[-1].turn == 1


def test_a_failure_tells_stage_class_and_cure(cluster: Cluster) -> None:
    """As a warning; and a retry that it was begun anew."""
    until(cluster, "train")
    cluster.fail(job_of(cluster, "train"), FailureClass.TRAINING_DIVERGED)

    (told,) = told_by(cluster)
    assert (told.type, told.reason) == (NoticeType.WARNING, "TrainingDiverged")
    assert told.note.startswith("train: it failed. Lower training.learningRate")
    cluster.retry = "again"
    assert "BegunAnew" in reasons(cluster)


def test_what_does_not_come_by_itself_is_told_once(cluster: Cluster) -> None:
    """No node for a pod, however its words change; that a pod is being started is no news."""
    one_pass(cluster)
    name = job_of(cluster, "prepare")
    assert reasons(cluster) == []
    for said in ("0/1 nodes are available", "0/2 nodes are available"):
        pod = StagePod(name="pod", uid="pod", created=cluster.now, unschedulable=said)
        cluster.jobs[name] = replace(cluster.jobs[name], pods=(pod,))
        told = told_by(cluster)
        if said.startswith("0/1"):
            assert [(each.reason, each.note) for each in told] == [
                ("Waiting", "prepare: no node for its pod: 0/1 nodes are available")
            ]
        else:
            assert told == ()


def test_suspending_and_going_on_are_told(cluster: Cluster) -> None:
    """With the step that is safe."""
    until(cluster, "train")
    one_pass(cluster)
    cluster.tell(job_of(cluster, "train"), 40, checkpoint_step="8")
    one_pass(cluster)
    cluster.edit(suspend=True)
    one_pass(cluster)
    cluster.collect()

    (told,) = told_by(cluster)
    assert told.reason == "Suspended"
    assert told.note.endswith("training will go on from step 8")
    cluster.edit(suspend=False)
    assert "Resumed" in reasons(cluster)


def test_a_note_fits_an_event(cluster: Cluster) -> None:
    """A tool's last words may be long; the API server counts bytes."""
    until(cluster, "train")
    cluster.fail(job_of(cluster, "train"), FailureClass.INTERNAL)
    before = cluster.status
    one_pass(cluster)
    failure = cluster.status.failure
    assert failure is not None
    long = failure.model_copy(update={"message": "é" * 5000})
    after: JobStatus = cluster.status.model_copy(update={"failure": long})

    (told,) = notices(before, after)
    assert 1000 < len(told.note.encode()) <= 1024
