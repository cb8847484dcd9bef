"""What is counted of a job: each thing once, under labels that name no job."""

from collections import Counter
from datetime import timedelta

import pytest

from support.builders import a_spec
from support.small_cluster import ROWS, Cluster, job_of, one_pass, settle, until
from tunesmith_api.failures import FailureClass
from tunesmith_api.stages import ArtifactReference, Kind, Stage, stage_of
from tunesmith_operator.history import Count, Counted, history


@pytest.fixture
def cluster() -> Cluster:
    """A job that nobody has seen yet."""
    return Cluster(spec=a_spec(datasets=ROWS, quantizations=["Q8_0", "Q4_K_M"]))


def counted(cluster: Cluster) -> tuple[Count, ...]:
    """What a pass has to count."""
    before = cluster.status
    one_pass(cluster)
    return tuple(history(before, cluster.status, cluster.world().own_jobs))


def of(what: Counted, counts: tuple[Count, ...]) -> list[tuple[str, ...]]:
    return [each.labels for each in counts if each.what is what]


def played(cluster: Cluster) -> tuple[Count, ...]:
    """All that there is to count while everything goes well to the end; two seconds lie between any two things."""
    found: list[Count] = []
    for _ in range(60):
        found += counted(cluster)
        cluster.collect()
        for name, job in list(cluster.jobs.items()):
            cluster.now += timedelta(seconds=2)
            if not job.ended:
                (cluster.start if job.waits else cluster.complete)(name)
    return tuple(found)


def test_a_job_that_goes_well_is_counted_once_from_stage_to_stage(cluster: Cluster) -> None:
    """Each stage's time and its wait, with the seconds that they took; then that it is complete, and no more."""
    found = played(cluster)

    stages = Counter(stage_of(stage.name) for stage in cluster.status.stages)
    assert Counter(of(Counted.STAGE_SECONDS, found)) == Counter({(stage, "Done"): n for stage, n in stages.items()})
    assert Counter(of(Counted.WAIT_SECONDS, found)) == Counter({(stage,): n for stage, n in stages.items()})
    assert of(Counted.COMPLETION, found) == [("Complete", "Completed")]
    assert min(each.value for each in found if each.what is Counted.STAGE_SECONDS) >= 2
    assert of(Counted.RETRY, found) == []


def test_a_failure_is_counted_with_its_class_and_a_retry_with_what_it_is_after(cluster: Cluster) -> None:
    """By hand: the failure that stood in the record."""
    until(cluster, "train")
    cluster.fail(job_of(cluster, "train"), FailureClass.TRAINING_DIVERGED)

    failed = counted(cluster)
    assert of(Counted.COMPLETION, failed) == [("Failed", "TrainingDiverged")]
    assert of(Counted.STAGE_SECONDS, failed) == [("train", "Failed")]
    cluster.retry = "again"
    assert of(Counted.RETRY, counted(cluster)) == [("train", "TrainingDiverged")]
    assert counted(cluster) == ()


def test_what_was_found_damaged_is_counted_as_made_anew_for_that(cluster: Cluster) -> None:
    """Its maker and who found it."""
    until(cluster, "convert")
    adapter = next(stage for stage in cluster.status.stages if stage.name == "train").keys
    assert adapter is not None
    damaged = ArtifactReference(kind=Kind.ADAPTER, key=adapter.outputs["adapter"])
    cluster.fail(job_of(cluster, "convert"), FailureClass.ARTIFACT_CORRUPT, damaged)

    assert ("train", "ArtifactCorrupt") in of(Counted.RETRY, counted(cluster))


def test_what_was_in_the_store_has_taken_no_time(cluster: Cluster) -> None:
    """prepare has found it, and there was no Job; the stages after it are counted all the same."""
    cluster.present = ("train",)
    found = played(cluster)

    assert "train" not in {labels[0] for labels in of(Counted.STAGE_SECONDS, found) + of(Counted.WAIT_SECONDS, found)}
    assert ("convert", "Done") in of(Counted.STAGE_SECONDS, found)


def test_other_files_to_publish_are_no_retry(cluster: Cluster) -> None:
    """publish has another turn, but for nothing that went wrong."""
    settle(cluster)
    cluster.edit(gates={"maxPerplexityIncrease": 9})

    found = counted(cluster)
    assert cluster.status.stages[-1].turn == 1
    assert of(Counted.RETRY, found) == []


@pytest.mark.parametrize(
    ("name", "stage"), [("quantize-Q4_K_M", Stage.QUANTIZE), ("prepare", Stage.PREPARE), ("other-x", None), ("", None)]
)
def test_a_name_in_a_plan_is_a_stage_s_or_nobody_s(name: str, stage: Stage | None) -> None:
    """Whoever gives a Job of theirs our label makes no series of it."""
    assert stage_of(name) is stage


def test_a_pod_that_follows_on_one_that_was_taken_away_has_waited_since_it_was_made(cluster: Cluster) -> None:
    """Hours of training are no wait."""
    until(cluster, "train")
    counted(cluster)
    name = job_of(cluster, "train")
    cluster.now += timedelta(hours=5)
    cluster.evict(name)
    counted(cluster)
    cluster.now += timedelta(seconds=10)
    cluster.start(name)

    [waited] = [each for each in counted(cluster) if each.what is Counted.WAIT_SECONDS]
    assert waited.value < 60
