"""What a job waits for with patience and when it gives up: stores away, evictions, quotas, nodes that refuse or die."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.builders import MODEL, a_spec
from support.small_cluster import NOON, ROWS, SETTINGS, Cluster, job_of, one_pass, rules_of, settle, until
from tunesmith_api.failures import FailureClass
from tunesmith_api.status import Phase, StageState, StageStatus
from tunesmith_operator.decide import CreateJob, Decision
from tunesmith_operator.silence import next_look, silent
from tunesmith_operator.world import Ended, JobState, StagePod, Warned

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
    for _ in range(20):
        cluster.fail(job_of(cluster, "train"), AWAY)
        decision = one_pass(cluster)
        if decision.status.failure is not None:
            break
        assert decision.again is not None
        pauses.append(decision.again - cluster.now)
        cluster.now = decision.again
        until(cluster, "train")

    assert pauses[:4] == [MINUTE, MINUTE, 2 * MINUTE, 4 * MINUTE]
    assert max(pauses) == 10 * MINUTE
    assert SETTINGS.store_patience <= cluster.now - NOON < SETTINGS.store_patience + 10 * MINUTE
    assert settle(cluster).failure.failure is AWAY


def test_a_stored_checkpoint_ends_an_outage(cluster: Cluster) -> None:
    """What is away later is away anew; that a pod works says nothing of what it may write."""
    until(cluster, "train")
    cluster.tell(job_of(cluster, "train"), 10, checkpoint_step="8")
    one_pass(cluster)
    cluster.fail(job_of(cluster, "train"), AWAY)
    one_pass(cluster)
    began = cluster.now
    cluster.now += MINUTE
    until(cluster, "train")
    cluster.tell(job_of(cluster, "train"), 10, checkpoint_step="8")
    one_pass(cluster)
    assert record(cluster, "train").away_since == began

    cluster.now += MINUTE
    cluster.tell(job_of(cluster, "train"), 20, checkpoint_step="16")
    one_pass(cluster)
    assert record(cluster, "train").away_since is None
    cluster.now += 2 * SETTINGS.store_patience
    cluster.fail(job_of(cluster, "train"), AWAY)
    one_pass(cluster)
    assert record(cluster, "train").away_since == cluster.now
    assert cluster.status.failure is None


def test_a_store_that_takes_nothing_does_not_train_for_ever(cluster: Cluster) -> None:
    """However long each pod works before its upload fails."""
    until(cluster, "train")
    for _ in range(100):
        cluster.now += 30 * MINUTE
        cluster.fail(job_of(cluster, "train"), AWAY)
        if (decision := one_pass(cluster)).status.failure is not None:
            break
        assert decision.again is not None
        cluster.now = decision.again
        until(cluster, "train")

    assert cluster.status.failure is not None
    assert record(cluster, "train").turn <= 3


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


def evicted(cluster: Cluster, number: int, lived: timedelta = MINUTE) -> StagePod:
    """A pod that its node had no room for any more."""
    refusal, began = ("Evicted", "The node was low on resource: memory."), cluster.now + number * MINUTE
    ended = Ended(137, "Error", "", began, began + lived)
    return a_pod(cluster, number, disrupted="TerminationByKubelet", refusal=refusal, ended=ended, started=began)


def test_a_stage_that_is_evicted_again_and_again_fails(cluster: Cluster) -> None:
    """The Job controller would go on for ever; a pod that runs is let be."""
    until(cluster, "train")
    pods = [evicted(cluster, number) for number in range(5)]
    with_pods(cluster, "train", *pods[1:], a_pod(cluster, 98), state=JobState.RUNNING)
    one_pass(cluster)
    assert cluster.status.failure is None
    with_pods(cluster, "train", *pods, a_pod(cluster, 98, started=cluster.now), state=JobState.RUNNING)
    one_pass(cluster)
    assert record(cluster, "train").state is StageState.RUNNING

    with_pods(cluster, "train", *pods, a_pod(cluster, 98), state=JobState.RUNNING)
    one_pass(cluster)
    one_pass(cluster)
    failure = cluster.status.failure
    assert failure is not None
    assert failure.failure is FailureClass.EVICTED
    assert failure.message.startswith(
        "the last 5 pods of train were evicted soon by nodes that ran short: The node was"
    )
    assert cluster.jobs[job_of(cluster, "train")].deleting


def test_evictions_after_long_work_do_not_count(cluster: Cluster) -> None:
    """A training of days meets more than one node that runs short."""
    until(cluster, "train")
    pods = [*(evicted(cluster, n) for n in range(9)), evicted(cluster, 9, 11 * MINUTE), evicted(cluster, 10)]
    with_pods(cluster, "train", *pods, a_pod(cluster, 98), state=JobState.RUNNING)
    one_pass(cluster)

    assert cluster.status.failure is None


@pytest.mark.parametrize("disrupted", ["EvictionByEvictionAPI", "PreemptionByScheduler", "DeletionByTaintManager"])
def test_drained_and_preempted_pods_do_not_count(cluster: Cluster, disrupted: str) -> None:
    """However often."""
    until(cluster, "train")
    ended = Ended(143, "Error", "", cluster.now, cluster.now)
    pods = [a_pod(cluster, n, disrupted=disrupted, ended=ended, started=cluster.now) for n in range(9)]
    with_pods(cluster, "train", *pods, a_pod(cluster, 98), state=JobState.RUNNING)
    one_pass(cluster)

    assert cluster.status.failure is None


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


@pytest.mark.parametrize(
    ("reason", "failure", "at_once"),
    [
        ("ErrImageNeverPull", FailureClass.IMAGE_PULL, True),
        ("ErrImagePull", FailureClass.IMAGE_PULL, False),
        ("CreateContainerConfigError", FailureClass.SPEC_INVALID, False),
        ("CreateContainerError", FailureClass.SPEC_INVALID, False),
        ("RunContainerError", FailureClass.SPEC_INVALID, False),
    ],
)
def test_a_container_that_does_not_start_is_waited_for_or_not(
    cluster: Cluster, reason: str, failure: FailureClass, at_once: bool
) -> None:
    """By the kubelet's reason: what cannot heal ends the job at once, the rest after the patience."""
    one_pass(cluster)
    with_pods(cluster, "prepare", a_pod(cluster, scheduled=cluster.now, waiting=(reason, "why")))
    one_pass(cluster)
    assert (cluster.status.failure is not None) is at_once
    cluster.now += SETTINGS.image_patience
    one_pass(cluster)

    assert cluster.status.failure is not None
    assert cluster.status.failure.failure is failure
    assert "why" in cluster.status.failure.message


def test_another_image_is_tried_by_itself(cluster: Cluster) -> None:
    """An upgrade is what heals it; the Job that could not start is gone by then."""
    one_pass(cluster)
    with_pods(cluster, "prepare", a_pod(cluster, scheduled=cluster.now, waiting=("ErrImageNeverPull", "why")))
    for _ in range(2):
        one_pass(cluster)
    cluster.collect()
    assert (cluster.jobs, cluster.status.phase) == ({}, Phase.RUNNING)
    one_pass(cluster)
    assert cluster.status.phase is Phase.FAILED
    assert one_pass(cluster).actions == ()

    one_pass(cluster, rules=rules_of({"images": {"trainer": "another"}}))
    assert record(cluster, "prepare").state is StageState.WAITING
    assert settle(cluster).phase is Phase.COMPLETE


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


def without_pod(cluster: Cluster, warning: str, since: timedelta = MINUTE) -> None:
    """prepare's Job gets no pod, and this is said for so long."""
    one_pass(cluster)
    uid = cluster.jobs[job_of(cluster, "prepare")].uid
    cluster.now += since
    one_pass(cluster, replace(cluster.world(), warnings={uid: Warned(cluster.now - since, warning)}))


def test_a_quota_that_others_use_is_waited_for(cluster: Cluster) -> None:
    """And the status has its words, which no field of the Job has."""
    warning = QUOTA.format("4Gi", "requests.memory=6Gi", "requests.memory=8Gi")
    without_pod(cluster, warning)

    assert cluster.status.message == f"prepare: no pod can be made for it: {warning}"
    without_pod(cluster, warning, 60 * MINUTE)
    assert cluster.status.failure is None


def test_a_quota_that_is_less_than_one_pod_needs_ends_the_job(cluster: Cluster) -> None:
    """Nobody can give back what nobody has; whoever changes it has a moment."""
    warning = QUOTA.format("4Gi,pods=1", "pods=0,requests.memory=0", "pods=5,requests.memory=2Gi")
    without_pod(cluster, warning)
    assert cluster.status.failure is None
    without_pod(cluster, warning, SETTINGS.image_patience)

    failure = cluster.status.failure
    assert failure is not None
    assert failure.failure is FailureClass.QUOTA_EXCEEDED
    assert failure.message == "prepare asks for requests.memory 4Gi, and the quota small has 2Gi for all"
    one_pass(cluster)
    cluster.collect()
    assert settle(cluster).phase is Phase.FAILED
    cluster.edit(stages=[{"name": "prepare", "resources": {"requests": {"memory": "1Gi"}}}])
    assert settle(cluster).phase is Phase.COMPLETE


@pytest.mark.parametrize(
    ("warning", "ends"),
    [
        ('Error creating: pods "p" is forbidden: serviceaccount "x" not found', True),
        ('Error creating: Pod "p" is invalid: spec.containers[0].resources.requests: Invalid value: "4Gi"', True),
        ('Error creating: admission webhook "validate.kyverno.svc" denied the request: no', True),
        ("Error creating: Internal error occurred: failed calling webhook: connection refused", False),
    ],
)
def test_what_admission_does_not_take_is_waited_for_with_patience(cluster: Cluster, warning: str, ends: bool) -> None:
    """A webhook may come back; what is forbidden stays so until a person acts. A Job's own age says nothing."""
    one_pass(cluster)
    cluster.now += 600 * MINUTE
    without_pod(cluster, warning)
    assert warning in cluster.status.message
    assert cluster.status.failure is None

    without_pod(cluster, warning, SETTINGS.image_patience)
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


def test_last_words_that_nobody_can_read_fail_the_stage(cluster: Cluster) -> None:
    """An image of another version would say the same each time."""
    until(cluster, "convert")
    cluster.complete(job_of(cluster, "convert"), message="done, thank you")

    failure = settle(cluster).failure
    assert failure is not None
    assert failure.message == "convert has ended well and said nothing that this operator can read: done, thank you"


def test_an_image_that_says_nothing_is_not_started_for_ever(cluster: Cluster) -> None:
    """It is not ours: once may be chance."""
    until(cluster, "convert")
    for _ in range(2):
        cluster.complete(job_of(cluster, "convert"), message="")
        if one_pass(cluster).status.failure is None:
            until(cluster, "convert")

    failure = settle(cluster).failure
    assert failure is not None
    assert failure.message.endswith("said nothing that this operator can read: nothing at all")
    assert cluster.made.count("convert") == 2


def test_a_failure_says_how_to_ask_again(cluster: Cluster) -> None:
    """Where, and what helps without it."""
    until(cluster, "prepare")
    cluster.fail(job_of(cluster, "prepare"), FailureClass.DATASET_INVALID)

    failure = settle(cluster).failure
    assert failure is not None
    assert failure.hint.endswith("Then ask for it again: tunesmith retry job -n team.")


@pytest.mark.parametrize(
    "failure", [FailureClass.SECRET_MISSING, FailureClass.ACCESS_DENIED, FailureClass.SOURCE_ABSENT]
)
def test_another_secret_in_the_manifest_is_worth_another_try(cluster: Cluster, failure: FailureClass) -> None:
    """By itself, since its pod is given another then."""
    until(cluster, "prepare")
    cluster.fail(job_of(cluster, "prepare"), failure)
    failed = settle(cluster)
    assert failed.phase is Phase.FAILED
    assert "Another Secret in the manifest is tried by itself" in failed.failure.hint

    cluster.edit(gates={"minAnswersClean": 0.5})
    assert settle(cluster).phase is Phase.FAILED
    cluster.edit(model=MODEL | {"secretRef": {"name": "another"}})
    assert settle(cluster).phase is Phase.COMPLETE
    assert record(cluster, "prepare").turn == 1


def test_more_memory_counts_that_was_asked_for_while_it_ran(cluster: Cluster) -> None:
    """The edit came before the failure, to a pod that had begun with less; other changes than the manifest's do not."""
    until(cluster, "train")
    cluster.edit(stages=[{"name": "train", "resources": {"limits": {"memory": "64Gi"}}}])
    one_pass(cluster)
    cluster.kill(job_of(cluster, "train"))

    assert settle(cluster).phase is Phase.COMPLETE
    assert record(cluster, "train").turn == 1


def test_what_a_pod_has_said_may_come_later_than_its_job_s_end(cluster: Cluster) -> None:
    """Jobs and pods have watches of their own: nothing is judged, nor made again, by what was seen before."""
    until(cluster, "train")
    name = job_of(cluster, "train")
    one_pass(cluster)
    running = cluster.jobs[name].pods
    cluster.fail(name, AWAY)
    said = cluster.jobs[name].pods
    cluster.jobs[name] = replace(cluster.jobs[name], pods=running)
    decision = one_pass(cluster)
    assert (decision.actions, record(cluster, "train").state) == ((), StageState.RUNNING)
    assert decision.again == cluster.now + 2 * MINUTE
    cluster.jobs[name] = replace(cluster.jobs[name], pods=said)
    one_pass(cluster)
    assert record(cluster, "train").away_since == cluster.now


def test_a_pod_that_never_says_how_it_ended_is_not_waited_for_for_ever(cluster: Cluster) -> None:
    """The Job is complete, and is made again."""
    until(cluster, "convert")
    name = job_of(cluster, "convert")
    running = cluster.jobs[name].pods
    cluster.complete(name, message="")
    cluster.jobs[name] = replace(cluster.jobs[name], pods=running)
    assert one_pass(cluster).actions == ()
    cluster.now += 2 * MINUTE
    one_pass(cluster)

    assert cluster.jobs[name].deleting


def late(cluster: Cluster, **fields: Any) -> None:
    """The Job controller has ended the training by its deadline, and deleted its pod."""
    name = job_of(cluster, "train")
    told = {"state": JobState.FAILED, "reason": "DeadlineExceeded", "message": "it took too long", "pods": ()}
    cluster.jobs[name] = replace(cluster.jobs[name], **told, **fields)


@pytest.fixture
def timed() -> Cluster:
    """A job that may take ten minutes."""
    return Cluster(spec=a_spec(datasets=ROWS, quantizations=["Q8_0"], activeDeadlineSeconds=600))


def test_a_deadline_counts_from_the_first_job(timed: Cluster) -> None:
    """Though its pod has never begun: a large image that is pulled, a node that died."""
    one_pass(timed)
    one_pass(timed)
    timed.now += 11 * MINUTE
    one_pass(timed)

    assert timed.status.failure is not None
    assert timed.status.failure.failure is FailureClass.DEADLINE


def test_a_deadline_is_looked_at_when_it_is_over(timed: Cluster) -> None:
    """No event comes then."""
    until(timed, "train")
    decision = one_pass(timed)

    assert timed.status.started is not None
    assert decision.again == timed.status.started + 10 * MINUTE


def test_a_job_that_was_made_suspended_has_its_whole_time(timed: Cluster) -> None:
    """And no more."""
    timed.edit(suspend=True)
    one_pass(timed)
    timed.now += 60 * MINUTE
    timed.edit(suspend=False)
    one_pass(timed)
    timed.now += 11 * MINUTE
    one_pass(timed)

    assert timed.status.failure is not None


def seconds_of(decision: Decision) -> int:
    """How long the Job that was made may run."""
    (made,) = (action for action in decision.actions if isinstance(action, CreateJob))
    return int(made.job["spec"]["activeDeadlineSeconds"])


def test_a_job_ends_by_itself_a_little_after_the_deadline(timed: Cluster) -> None:
    """Should the operator be down then; what was suspended meanwhile does not count, and a retry has all the time."""
    assert seconds_of(one_pass(timed)) == 660
    until(timed, "train")
    timed.now += 5 * MINUTE
    timed.edit(suspend=True)
    one_pass(timed)
    timed.collect()
    one_pass(timed)
    timed.now += 60 * MINUTE
    timed.edit(suspend=False)
    assert 350 <= seconds_of(one_pass(timed)) <= 360
    until(timed, "train")
    timed.now += 60 * MINUTE
    settle(timed)
    timed.retry = "1"
    assert seconds_of(one_pass(timed)) == 660


def test_a_deadline_that_was_put_off_begins_anew_what_it_had_ended(timed: Cluster) -> None:
    """The Job's own cannot be changed once it is made."""
    until(timed, "train")
    timed.now += 11 * MINUTE
    late(timed)
    status = settle(timed)
    assert status.failure is not None
    assert status.failure.failure is FailureClass.DEADLINE

    timed.edit(activeDeadlineSeconds=6000)
    assert settle(timed).phase is Phase.COMPLETE
    assert record(timed, "train").turn == 1


def test_a_retry_gives_time_again_to_what_its_own_deadline_ended(timed: Cluster) -> None:
    """The Job that was ended so is still there, and has the name."""
    until(timed, "train")
    timed.now += 11 * MINUTE
    late(timed)
    assert settle(timed).phase is Phase.FAILED
    timed.retry = "1"

    assert settle(timed).phase is Phase.COMPLETE


def test_a_deadline_that_somebody_else_gave_fails_the_stage(cluster: Cluster) -> None:
    """A policy's; it would be there again each time."""
    until(cluster, "train")
    late(cluster)

    status = settle(cluster)
    assert status.failure is not None
    assert status.failure.failure is FailureClass.DEADLINE
    assert record(cluster, "train").turn == 0


@pytest.mark.parametrize("change", [{"ttlSecondsAfterFinished": 9}, {"stages": [{"name": "*", "labels": {"a": "b"}}]}])
def test_what_adds_no_memory_does_not_begin_a_killed_stage_anew(cluster: Cluster, change: dict[str, Any]) -> None:
    """It would be killed again."""
    until(cluster, "train")
    cluster.kill(job_of(cluster, "train"))
    settle(cluster)
    cluster.edit(**change)

    assert settle(cluster).phase is Phase.FAILED
    assert record(cluster, "train").turn == 0
