"""How far a job is and what it has used: what the status says of it, and how often it is written."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from support.builders import a_spec
from support.small_cluster import ROWS, Cluster, job_of, one_pass, settle, until
from tunesmith_api.failures import FailureClass
from tunesmith_api.stages import Stage, StageResult
from tunesmith_api.status import Phase, Progress
from tunesmith_operator.progressing import WRITE_EVERY
from tunesmith_operator.world import Ended

SECOND = timedelta(seconds=1)


@pytest.fixture
def cluster() -> Cluster:
    """A job on a GPU whose training has just begun to work."""
    spec = a_spec(datasets=ROWS, quantizations=["Q8_0"], training={"gpu": {"memory": "16Gi"}})
    made = Cluster(spec=spec)
    until(made, "train")
    one_pass(made)
    return made


def progress_of(cluster: Cluster) -> Progress:
    assert cluster.status.progress is not None
    return cluster.status.progress


def test_what_a_pod_says_is_in_the_status(cluster: Cluster) -> None:
    """Each stage counts the same in the share of the whole."""
    cluster.tell(job_of(cluster, "train"), 50, current_step="10", total_steps="20", loss="1.5")
    one_pass(cluster)

    told = progress_of(cluster)
    assert (told.stage, told.step, told.steps, told.loss) == (Stage.TRAIN, 10, 20, 1.5)
    assert told.percent == (100 + 50) // len(cluster.status.stages)


def test_it_is_written_once_in_ten_seconds(cluster: Cluster) -> None:
    """And the operator looks again when the time is over."""
    train = job_of(cluster, "train")
    cluster.tell(train, 10, current_step="1")
    one_pass(cluster)
    written, since = cluster.version, progress_of(cluster).time
    assert since is not None
    for step in range(2, 10):
        cluster.now += SECOND
        cluster.tell(train, 10, current_step=str(step))
        decision = one_pass(cluster)
    assert cluster.version == written
    assert decision.again == since + WRITE_EVERY

    cluster.now = since + WRITE_EVERY
    one_pass(cluster)
    assert (cluster.version, progress_of(cluster).step) == (written + 1, 9)
    cluster.now += WRITE_EVERY
    assert one_pass(cluster).again is None
    assert cluster.version == written + 1


def test_what_is_no_number_is_left_out(cluster: Cluster) -> None:
    """Metrics are strings, and anything can stand in them."""
    cluster.tell(job_of(cluster, "train"), 10, loss="nan", current_step="-4", total_steps="many")
    one_pass(cluster)

    told = progress_of(cluster)
    assert (told.loss, told.step, told.steps) == (None, None, None)


@pytest.mark.parametrize(
    ("said", "told"), [("fetching 15.2 GB", "fetching 15.2 GB"), ("\x1b[2J", None), ("x" * 41, None)]
)
def test_what_a_stage_is_at_is_told_if_it_is_a_plain_word(cluster: Cluster, said: str, told: str | None) -> None:
    """Where nothing is counted yet: a large model is fetched for many minutes."""
    cluster.tell(job_of(cluster, "train"), 0, phase=said)
    one_pass(cluster)

    assert progress_of(cluster).phase == told


def test_after_its_stage_the_share_and_the_loss_stay(cluster: Cluster) -> None:
    """A column of `kubectl get` shows them to the end."""
    train = job_of(cluster, "train")
    cluster.tell(train, 99, current_step="20", loss="0.5")
    one_pass(cluster)
    cluster.complete(train)
    one_pass(cluster)
    assert (progress_of(cluster).stage, progress_of(cluster).step, progress_of(cluster).loss) == (None, None, 0.5)

    assert settle(cluster).phase is Phase.COMPLETE
    assert (progress_of(cluster).percent, progress_of(cluster).loss) == (100, 0.5)


def test_a_training_that_has_told_nothing_shows_its_figure(cluster: Cluster) -> None:
    """A short one is over before its first report with a loss is written."""
    train = job_of(cluster, "train")
    result = StageResult(stage=Stage.TRAIN, figures={"trainLoss": 1.23456789})
    cluster.complete(train, message=result.model_dump_json(by_alias=True, exclude_none=True))

    assert settle(cluster).progress.loss == 1.2346


def test_the_newest_checkpoint_is_told_until_the_result_is_there(cluster: Cluster) -> None:
    """It outlasts the pod that told of it; a report that is late does not lower it."""
    train = job_of(cluster, "train")
    cluster.tell(train, 40, checkpoint_step="8")
    one_pass(cluster)
    cluster.tell(train, 20, checkpoint_step="4")
    one_pass(cluster)
    assert cluster.status.checkpoint is not None
    assert cluster.status.checkpoint.step == 8
    cluster.edit(suspend=True)
    one_pass(cluster)
    cluster.collect()
    one_pass(cluster)
    assert (cluster.status.phase, cluster.status.checkpoint.step) == (Phase.SUSPENDED, 8)

    cluster.edit(suspend=False)
    settle(cluster)
    assert cluster.status.checkpoint is None


def test_a_checkpoint_that_is_saved_at_the_end_is_told_by_a_pod_s_last_words(cluster: Cluster) -> None:
    """The pod has ended before its job had another turn."""
    train = job_of(cluster, "train")
    cluster.tell(train, 40, checkpoint_step="8")
    [pod] = cluster.jobs[train].pods
    ended = replace(pod, ended=Ended(143, "Error", "", cluster.now, cluster.now))
    cluster.jobs[train] = replace(cluster.jobs[train], pods=(ended,))
    one_pass(cluster)

    assert cluster.status.checkpoint is not None
    assert cluster.status.checkpoint.step == 8


def test_gpu_seconds_are_those_of_all_attempts(cluster: Cluster) -> None:
    """One that was suspended, one that vanished unseen, and one that ended well; nothing is counted twice."""
    cluster.now += 10 * SECOND
    cluster.edit(suspend=True)
    one_pass(cluster)
    cluster.collect()
    one_pass(cluster)
    one_pass(cluster)
    assert cluster.status.gpu_seconds == 10
    cluster.edit(suspend=False)
    until(cluster, "train")
    one_pass(cluster)
    cluster.now += 5 * SECOND
    cluster.vanish(job_of(cluster, "train"))
    one_pass(cluster)
    assert cluster.status.gpu_seconds == 15

    until(cluster, "train")
    one_pass(cluster)
    cluster.now += 7 * SECOND
    cluster.complete(job_of(cluster, "train"))
    settle(cluster)
    assert cluster.status.gpu_seconds == 22


def test_a_pod_that_ended_is_counted_once_whatever_its_job_says(cluster: Cluster) -> None:
    """A Job is complete, or has failed, some moments after its pod has ended."""
    train = job_of(cluster, "train")
    cluster.now += 10 * SECOND
    cluster.fail(train, FailureClass.INTERNAL)
    failed = cluster.jobs[train]
    cluster.still_running(train)
    one_pass(cluster)
    cluster.now += SECOND
    cluster.jobs[train] = failed
    one_pass(cluster)
    one_pass(cluster)

    assert (cluster.status.phase, cluster.status.gpu_seconds) == (Phase.FAILED, 10)
    cluster.retry = "again"
    settle(cluster)
    assert cluster.status.gpu_seconds == 11


def test_a_pod_that_began_and_ended_while_the_operator_was_away_is_counted() -> None:
    """Its times stand in its status."""
    cluster = Cluster(spec=a_spec(datasets=ROWS, quantizations=["Q8_0"], training={"gpu": {"memory": "16Gi"}}))
    until(cluster, "train")
    cluster.now += 30 * SECOND
    cluster.complete(job_of(cluster, "train"))
    settle(cluster)

    assert cluster.status.gpu_seconds == 30


def test_what_was_counted_is_not_counted_again(cluster: Cluster) -> None:
    """A pod that has ended and is still there, after a later one that was gone before anybody saw it end."""
    train = job_of(cluster, "train")
    cluster.now += 10 * SECOND
    cluster.fail(train, FailureClass.INTERNAL)
    cluster.still_running(train)
    one_pass(cluster)
    first = cluster.jobs[train]
    cluster.start(train)
    cluster.jobs[train] = replace(cluster.jobs[train], pods=(*first.pods, *cluster.jobs[train].pods))
    one_pass(cluster)
    cluster.now += 5 * SECOND
    cluster.jobs[train] = first
    one_pass(cluster)
    until = counted_until(cluster)
    one_pass(cluster)

    assert (cluster.status.gpu_seconds, counted_until(cluster)) == (15, until)


def counted_until(cluster: Cluster) -> datetime | None:
    return next(stage.counted_until for stage in cluster.status.stages if stage.name == "train")


def test_without_a_gpu_nothing_is_counted_or_written(cluster: Cluster) -> None:
    """The same job on a CPU."""
    cluster.spec = a_spec(datasets=ROWS, quantizations=["Q8_0"])
    cluster.now += 10 * SECOND
    settle(cluster)

    assert cluster.status.gpu_seconds == 0
    unset = [stage.counted_until is None for stage in cluster.status.stages if stage.name != "train"]
    assert all(unset)


def test_cpu_seconds_are_what_the_stages_said(cluster: Cluster) -> None:
    """Once each."""
    result = StageResult(stage=Stage.TRAIN, cpu_seconds=12.5)
    cluster.complete(job_of(cluster, "train"), result.model_dump_json(by_alias=True, exclude_none=True))
    settle(cluster)

    assert cluster.status.cpu_seconds == 12.5
    assert settle(replace(cluster)).cpu_seconds == 12.5
