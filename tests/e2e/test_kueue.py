"""Kueue itself: a training in a queue of it, by nothing but the label that it reads."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.real_cluster.jobs import LONG, STEPS, RealJob, stage_of
from support.real_cluster.kueue import kueue


@pytest.mark.slow
def test_a_queue_lets_a_training_in_puts_it_out_and_lets_it_in_again(small: RealJob) -> None:
    """It waits without a pod, is put out as by a suspension, and goes on from its checkpoint: one Job, and no retry."""
    with kueue(small.cluster, small.namespace) as queue:
        placed = [{"name": "train", "labels": queue.labels}]
        asked = small.named("in-line", training=LONG | {"seed": 17}, stages=placed, backoffLimit=0)
        with there(asked) as job:
            waits(job)
            assert job.pods("train", ended=True) == []
            [made] = uids(job)

            queue.stop("None")
            reached = job.trained(20)["progress"]["step"]
            queue.stop("HoldAndDrain")
            waits(job)
            job.until(lambda _: job.pods("train") == [], "the pod to go")

            queue.stop("None")
            train = stage_of(job.ended(), "train")
            assert train["result"]["figures"]["steps"] == STEPS
            assert train["result"]["figures"]["resumedFrom"] >= reached - LONG["saveEvery"]
            assert "turn" not in train
            assert uids(job) == [made]


@contextmanager
def there(job: RealJob) -> Iterator[RealJob]:
    """Within it the job is there; what is left of it in a queue would keep the queue."""
    try:
        yield job.apply()
    finally:
        job.kubectl("delete", f"ftj/{job.name}", "--ignore-not-found", "--cascade=foreground")


def uids(job: RealJob) -> list[str]:
    """Of the Jobs of the training."""
    labels = f"--selector=tunesmith.dev/job={job.name},tunesmith.dev/stage=train"
    return job.kubectl("get", "jobs", labels, "--output=jsonpath={.items[*].metadata.uid}").split()


def waits(job: RealJob) -> None:
    """Until the status says that the training's Job is not let in."""
    job.until(
        lambda status: any("queued" in stage.get("message", "") for stage in status.get("stages", [])),
        "the training to wait in the queue",
    )
