"""What a job waits for with patience and when it gives up: stores away, evictions, quotas, nodes that refuse or die."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.builders import a_spec
from support.small_cluster import NOON, ROWS, SETTINGS, Cluster, job_of, one_pass, settle, until
from tunesmith_api.failures import FailureClass
from tunesmith_api.status import Phase, StageState, StageStatus
from tunesmith_operator.explaining import last_warning
from tunesmith_operator.silence import next_look, silent
from tunesmith_operator.world import Ended, JobState, StagePod

MINUTE = timedelta(minutes=1)
AWAY = FailureClass.STORE_UNAVAILABLE
QUOTA = (
    'Error creating: pods "p" is forbidden: exceeded quota: small, requested: requests.memory={}, used: {}, limited: {}'
)


@pytest.fixture
def cluster() -> Cluster:
    """A job that nobody has seen yet."""
    return Cluster(spec=a_spec(datasets=ROWS, quantizations=["Q8_0"]))


def record(cluster: Cluster, stage: str) -> StageStatus:
    """What the status says of a stage."""
    return next(each for each in cluster.status.stages if each.name == stage)


def with_pods(cluster: Cluster, stage: str, *pods: StagePod, state: JobState = JobState.PENDING) -> None:
    """The Job of a stage has these."""
    name = job_of(cluster, stage)
    cluster.jobs[name] = replace(cluster.jobs[name], pods=pods, state=state)


def a_pod(cluster: Cluster, number: int = 0, **fields: Any) -> StagePod:
    """A pod of now."""
    return StagePod(f"pod-{number}", f"u{number}", cluster.now + number * MINUTE, **fields)


def test_a_store_that_was_away_is_waited_for(cluster: Cluster) -> None:
    """After a minute the stage is begun anew, by itself; the outage is over with its result."""
    until(cluster, "train")
    cluster.fail(job_of(cluster, "train"), AWAY)
    decision = one_pass(cluster)

    waits = record(cluster, "train")
    assert (waits.state, waits.away_since) == (StageState.WAITING, cluster.now)
    assert cluster.status.message == "train: the store is away since 12:00 UTC, tried again at 12:01:00: it failed"
    assert (cluster.status.phase, decision.again) == (Phase.RUNNING, cluster.now + MINUTE)

    cluster.now += MINUTE
    status = settle(cluster)
    assert (status.phase, record(cluster, "train").turn, record(cluster, "train").away_since) == ("Complete", 1, None)


def test_the_pauses_grow_and_patience_ends(cluster: Cluster) -> None:
    """A store that stays away is asked ever more rarely, and after the stated time the job says that it has failed."""
    until(cluster, "train")
    pauses = []
    cluster.fail(job_of(cluster, "train"), AWAY)
    while (decision := one_pass(cluster)).status.failure is None:
        assert decision.again is not None
        pauses.append(decision.again - cluster.now)
        cluster.now = decision.again
        until(cluster, "train")
        cluster.fail(job_of(cluster, "train"), AWAY)

    assert pauses[:4] == [MINUTE, MINUTE, 2 * MINUTE, 4 * MINUTE]
    assert max(pauses) == 10 * MINUTE
    assert SETTINGS.store_patience <= cluster.now - NOON < SETTINGS.store_patience + 10 * MINUTE
    assert settle(cluster).failure.failure is AWAY


def test_a_pod_that_has_worked_had_its_store(cluster: Cluster) -> None:
    """What comes later is another outage, with a patience of its own."""
    until(cluster, "train")
    cluster.fail(job_of(cluster, "train"), AWAY)
    one_pass(cluster)
    cluster.now += MINUTE
    until(cluster, "train")
    cluster.now += 2 * SETTINGS.store_patience
    cluster.fail(job_of(cluster, "train"), AWAY)
    one_pass(cluster)

    assert record(cluster, "train").away_since == cluster.now
    assert cluster.status.failure is None


def test_a_store_that_never_answered_is_not_waited_for(cluster: Cluster) -> None:
    """Most likely its address is wrong."""
    until(cluster, "prepare")
    cluster.fail(job_of(cluster, "prepare"), AWAY)

    assert settle(cluster).failure.failure is AWAY


def test_a_retry_does_not_wait_for_the_pause(cluster: Cluster) -> None:
    """Whoever asks knows that the store is back."""
    until(cluster, "train")
    cluster.fail(job_of(cluster, "train"), AWAY)
    one_pass(cluster)
    cluster.retry = "now"
    until(cluster, "train")

    assert cluster.now == NOON
    assert record(cluster, "train").turn == 1


def test_a_suspended_job_does_not_try_the_store(cluster: Cluster) -> None:
    """It does when it goes on."""
    until(cluster, "train")
    cluster.fail(job_of(cluster, "train"), AWAY)
    one_pass(cluster)
    cluster.edit(suspend=True)
    cluster.now += 2 * MINUTE

    assert settle(cluster).phase is Phase.SUSPENDED
    cluster.edit(suspend=False)
    assert settle(cluster).phase is Phase.COMPLETE


def evicted(cluster: Cluster, number: int) -> StagePod:
    """A pod that its node had no room for any more."""
    refusal = ("Evicted", "The node was low on resource: memory.")
    ended = Ended(137, "Error", "", cluster.now, cluster.now)
    return a_pod(cluster, number, disrupted="TerminationByKubelet", refusal=refusal, ended=ended, started=cluster.now)


def test_a_stage_that_is_evicted_again_and_again_fails(cluster: Cluster) -> None:
    """As often as other failures are tried again; the Job controller would go on for ever."""
    until(cluster, "train")
    limit = cluster.spec.backoff_limit
    running = a_pod(cluster, 99, started=cluster.now)
    with_pods(cluster, "train", *(evicted(cluster, n) for n in range(limit)), running, state=JobState.RUNNING)
    one_pass(cluster)
    assert record(cluster, "train").state is StageState.RUNNING

    with_pods(cluster, "train", *(evicted(cluster, n) for n in range(limit + 1)), running, state=JobState.RUNNING)
    one_pass(cluster)
    one_pass(cluster)
    failure = cluster.status.failure
    assert failure is not None
    assert failure.failure is FailureClass.EVICTED
    assert (
        failure.message == "4 pods of train were evicted by nodes that ran short: The node was low on resource: memory."
    )
    assert cluster.jobs[job_of(cluster, "train")].deleting


@pytest.mark.parametrize("disrupted", ["EvictionByEvictionAPI", "PreemptionByScheduler", "DeletionByTaintManager"])
def test_drained_and_preempted_pods_do_not_count(cluster: Cluster, disrupted: str) -> None:
    """However often."""
    until(cluster, "train")
    ended = Ended(143, "Error", "", cluster.now, cluster.now)
    pods = [a_pod(cluster, n, disrupted=disrupted, ended=ended, started=cluster.now) for n in range(9)]
    with_pods(cluster, "train", *pods, a_pod(cluster, 99, started=cluster.now), state=JobState.RUNNING)
    one_pass(cluster)

    assert record(cluster, "train").state is StageState.RUNNING


@pytest.mark.parametrize(
    ("refusal", "failure", "said"),
    [
        (("Evicted", "ephemeral local storage usage exceeds"), FailureClass.DISK_FULL, "ephemeral local storage"),
        (
            ("OutOfmemory", "Node didn't have enough"),
            FailureClass.UNSCHEDULABLE,
            "refused the pod of train (OutOfmemory)",
        ),
    ],
)
def test_what_the_kubelet_says_of_a_pod_is_told(
    cluster: Cluster, refusal: tuple[str, str], failure: FailureClass, said: str
) -> None:
    """A pod that used too much disk is killed with 137 too, and a refused one has no container at all."""
    until(cluster, "train")
    ended = Ended(137, "Error", "") if refusal[0] == "Evicted" else None
    with_pods(cluster, "train", a_pod(cluster, refusal=refusal, ended=ended), state=JobState.FAILED)

    status = settle(cluster)
    assert status.failure is not None
    assert status.failure.failure is failure
    assert said in status.failure.message


def test_a_lost_node_is_told(cluster: Cluster) -> None:
    """Its pod is to go, and nothing says that it has: only a person knows whether the machine is off."""
    until(cluster, "train")
    taken = a_pod(cluster, started=cluster.now, disrupted="DeletionByTaintManager", gone_by=cluster.now + MINUTE)
    with_pods(cluster, "train", taken, state=JobState.RUNNING)
    decision = one_pass(cluster)
    assert cluster.status.message == "train: its pod is taken away (DeletionByTaintManager), and another will follow"
    assert decision.again == cluster.now + 2 * MINUTE

    cluster.now += 2 * MINUTE
    one_pass(cluster)
    assert "was to be gone by 12:01:00 UTC and its node does not say so" in cluster.status.message


def without_pod(cluster: Cluster, warning: str) -> None:
    """prepare's Job gets no pod, and this was said."""
    one_pass(cluster)
    uid = cluster.jobs[job_of(cluster, "prepare")].uid
    cluster.now += MINUTE
    one_pass(cluster, replace(cluster.world(), warnings={uid: warning}))


def test_a_quota_that_others_use_is_waited_for(cluster: Cluster) -> None:
    """And the status has its words, which no field of the Job has."""
    warning = QUOTA.format("4Gi", "requests.memory=6Gi", "requests.memory=8Gi")
    without_pod(cluster, warning)

    assert cluster.status.message == f"prepare: no pod can be made for it: {warning}"
    cluster.now += 60 * MINUTE
    without_pod(cluster, warning)
    assert cluster.status.failure is None


def test_a_quota_that_is_less_than_one_pod_needs_fails_at_once(cluster: Cluster) -> None:
    """Nobody can give back what nobody has."""
    without_pod(cluster, QUOTA.format("4Gi,pods=1", "pods=0,requests.memory=0", "pods=5,requests.memory=2Gi"))

    failure = cluster.status.failure
    assert failure is not None
    assert failure.failure is FailureClass.QUOTA_EXCEEDED
    assert failure.message == "prepare asks for requests.memory 4Gi, and the quota small has 2Gi for all"


@pytest.mark.parametrize(
    ("warning", "ends"),
    [
        ('Error creating: pods "p" is forbidden: serviceaccount "x" not found', True),
        ("Error creating: Internal error occurred: failed calling webhook: connection refused", False),
    ],
)
def test_what_admission_does_not_take_is_waited_for_with_patience(cluster: Cluster, warning: str, ends: bool) -> None:
    """A webhook may come back; what is forbidden stays so until a person acts."""
    without_pod(cluster, warning)
    assert warning in cluster.status.message
    assert cluster.status.failure is None

    cluster.now += SETTINGS.image_patience
    without_pod(cluster, warning)
    failure = cluster.status.failure
    assert (failure is not None and failure.failure is FailureClass.SPEC_INVALID) == ends


def test_events_are_asked_for_only_of_what_should_have_gone_on(cluster: Cluster) -> None:
    """A Job without a pod after ten seconds, a pod on its node that starts nothing; more rarely the longer it lasts."""
    one_pass(cluster)
    job = cluster.jobs[job_of(cluster, "prepare")]
    assert list(silent(cluster.world())) == []
    assert next_look(cluster.world()) == NOON + timedelta(seconds=10)
    cluster.now += MINUTE
    assert list(silent(cluster.world())) == [(job.uid, NOON)]
    assert next_look(cluster.world()) == cluster.now + MINUTE

    starting = ("ContainerCreating", "")
    with_pods(cluster, "prepare", a_pod(cluster, waiting=starting))
    assert list(silent(cluster.world())) == []  # no node: its condition says why
    with_pods(cluster, "prepare", a_pod(cluster, waiting=starting, scheduled=NOON))
    assert list(silent(cluster.world())) == [("u0", NOON)]
    cluster.now += 60 * MINUTE
    assert next_look(cluster.world()) == cluster.now + 5 * MINUTE
    with_pods(cluster, "prepare", a_pod(cluster, waiting=("ErrImagePull", "503"), scheduled=NOON))
    assert list(silent(cluster.world())) == []


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


def test_last_words_that_nobody_can_read_fail_the_stage(cluster: Cluster) -> None:
    """An image of another version would say the same each time."""
    until(cluster, "convert")
    cluster.complete(job_of(cluster, "convert"), message="done, thank you")

    failure = settle(cluster).failure
    assert failure is not None
    assert failure.message == "convert has ended well and said nothing that this operator can read: done, thank you"


def test_a_failure_says_how_to_ask_again(cluster: Cluster) -> None:
    """Nothing else begins a failed stage anew."""
    until(cluster, "prepare")
    cluster.fail(job_of(cluster, "prepare"), FailureClass.SECRET_MISSING)

    failure = settle(cluster).failure
    assert failure is not None
    assert failure.hint.endswith("Then ask for it again: tunesmith retry job.")


def test_more_memory_counts_that_was_asked_for_while_it_ran(cluster: Cluster) -> None:
    """The edit came before the failure, to a pod that had begun with less; other changes than the manifest's do not."""
    until(cluster, "train")
    cluster.edit(stages=[{"name": "train", "resources": {"limits": {"memory": "64Gi"}}}])
    one_pass(cluster)
    cluster.kill(job_of(cluster, "train"))

    assert settle(cluster).phase is Phase.COMPLETE
    assert record(cluster, "train").turn == 1


def test_a_job_ends_by_itself_a_little_after_the_deadline() -> None:
    """Should the operator be down then; one that was put off meanwhile is begun anew."""
    cluster = Cluster(spec=a_spec(datasets=ROWS, quantizations=["Q8_0"], activeDeadlineSeconds=600))
    (first,) = one_pass(cluster).actions
    assert first.job["spec"]["activeDeadlineSeconds"] == 660
    until(cluster, "train")
    cluster.edit(activeDeadlineSeconds=6000)
    name = job_of(cluster, "train")
    late = {"state": JobState.FAILED, "reason": "DeadlineExceeded", "message": "it took too long"}
    cluster.jobs[name] = replace(cluster.jobs[name], **late)

    assert settle(cluster).phase is Phase.COMPLETE
    assert record(cluster, "train").turn == 1
