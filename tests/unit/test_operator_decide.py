"""The operator decides from what it sees: each case once, from a small cluster in memory."""

from dataclasses import replace
from datetime import timedelta

import pytest

from support.builders import a_plan, a_spec
from support.small_cluster import ROWS, RULES, SETTINGS, Cluster, job_of, one_pass, rules_of, settle, until
from tunesmith_api.failures import FailureClass
from tunesmith_api.keys import RECIPES
from tunesmith_api.spec import JobSpec
from tunesmith_api.stages import ArtifactReference, Kind
from tunesmith_api.status import JobStatus, Phase, StageState
from tunesmith_operator.decide import CreateJob, DeleteObject, decide
from tunesmith_operator.fold import Rules
from tunesmith_operator.settings import OperatorSettings
from tunesmith_operator.world import StagePod

TWO_TYPES = ("Q4_K_M", "Q8_0")


@pytest.fixture
def cluster() -> Cluster:
    """A job of two quantizations that nobody has seen yet."""
    return Cluster(spec=a_spec(datasets=ROWS, quantizations=list(TWO_TYPES)))


def started_by(cluster: Cluster) -> list[str]:
    """The stages whose Jobs a pass makes."""
    return [action.stage for action in one_pass(cluster).actions if isinstance(action, CreateJob)]


def state_of(cluster: Cluster, stage: str) -> StageState:
    """What the status says of a stage."""
    return next(each.state for each in cluster.status.stages if each.name == stage)


def test_the_first_pass_makes_prepare_s_job_and_says_what_it_has_seen(cluster: Cluster) -> None:
    """observedGeneration stands in the first write."""
    assert started_by(cluster) == ["prepare"]
    assert (cluster.status.observed_generation, cluster.status.phase) == (1, Phase.PENDING)
    assert started_by(cluster) == []


def test_all_goes_well(cluster: Cluster) -> None:
    """Every stage runs once, the sources are pinned, and Complete is said once no pod is left."""
    status = settle(cluster)

    assert status.phase is Phase.COMPLETE
    assert {stage.name for stage in status.stages} == {stage.name for stage in a_plan(cluster.spec).stages}
    assert set(cluster.created.values()) == {1}
    assert len(cluster.created) == len(status.stages)
    assert {c.type for c in status.conditions if c.status == "True"} == {"Ready", "Complete", "Finished"}
    assert "resolved" not in status.stages[0].result.figures


def test_what_was_made_stands_in_the_status(cluster: Cluster) -> None:
    """Every artifact's key, each file with its name and verdict: nobody has to ask the store."""
    status = settle(cluster)

    planned = {stage.name: stage.recorded_keys().outputs for stage in a_plan(cluster.spec).stages}
    assert {stage.name: stage.keys.outputs for stage in status.stages} == planned
    files = {made.name: (made.file, made.verdict) for made in status.artifacts}
    assert files == {type_: (f"job-{type_}.gguf", "Passed") for type_ in cluster.spec.quantizations}
    assert [made.key for made in status.artifacts] == [planned[f"quantize-{type_}"][Kind.QUANTIZED] for type_ in files]
    assert status.summary == f"{len(files)}/{len(files)}"


def test_no_file_has_a_verdict_before_it_is_judged(cluster: Cluster) -> None:
    """A quantization that was added is in the list when it is made, and passes when publish has said so."""
    until(cluster, "publish")
    status = cluster.status

    assert len(status.artifacts) == len(cluster.spec.quantizations)
    assert {each.verdict for each in status.artifacts} == {""}
    assert status.summary == ""


def test_the_status_has_no_line_for_what_says_nothing(cluster: Cluster) -> None:
    """`kubectl describe` prints each field of an object: empty ones are left out, and what comes back is the same."""
    status = settle(cluster)
    written = status.to_json_dict()

    assert empty_fields(written) == []
    assert not {"gpuSeconds", "suspendedSeconds"} & written.keys()
    assert [stage["name"] for stage in written["stages"] if "turn" in stage] == []
    assert JobStatus.model_validate(written) == status


def empty_fields(told: object, path: str = "status") -> list[str]:
    """Where there is an empty text, list or map, or a `false`; a figure may well be 0."""
    entries = told.items() if isinstance(told, dict) else enumerate(told) if isinstance(told, list) else ()
    below = [found for name, value in entries for found in empty_fields(value, f"{path}.{name}")]
    return below if told or (told == 0 and told is not False) else [path]


def test_what_is_in_the_store_is_not_started(cluster: Cluster) -> None:
    """Contract 5: no GPU is asked for where the adapter is there; evaluate, quantize and publish always run."""
    cluster.present = ("train", "convert", "baseline")

    status = settle(cluster)

    assert status.phase is Phase.COMPLETE
    assert sorted({name.split("-")[1] for name, _ in cluster.created}) == [
        "evaluate", "imatrix", "prepare", "publish", "quantize",
    ]  # fmt: skip


def test_quantizations_run_side_by_side_up_to_the_limit() -> None:
    """Two of four."""
    cluster = Cluster(spec=a_spec(datasets=ROWS, quantizations=["Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"]))
    until(cluster, "quantize-Q4_K_M")
    one_pass(cluster)

    live = [job.stage for job in cluster.jobs.values() if not job.ended and job.stage.startswith("quantize")]
    assert len(live) == SETTINGS.quantizations_at_once


def test_a_failed_stage_fails_the_job_once_nothing_runs_any_more(cluster: Cluster) -> None:
    """What runs beside it is let to its end, since a retry uses it; nothing new is started."""
    until(cluster, "baseline")
    cluster.fail(job_of(cluster, "baseline"), FailureClass.INTERNAL)
    one_pass(cluster)
    assert cluster.status.phase is Phase.RUNNING
    assert cluster.status.failure.failure is FailureClass.INTERNAL

    status = settle(cluster)

    assert (status.phase, status.message) == (Phase.FAILED, "it failed")
    assert {c.type for c in status.conditions if c.status == "True"} == {"Stalled", "Failed", "Finished"}
    assert not any(name.startswith("job-quantize") for name, _ in cluster.created)


def test_a_retry_runs_the_failed_stage_alone(cluster: Cluster) -> None:
    """The same annotation a second time does nothing."""
    until(cluster, "convert")
    cluster.fail(job_of(cluster, "convert"), FailureClass.INTERNAL)
    settle(cluster)
    before = dict(cluster.created)
    cluster.retry = "1"

    status = settle(cluster)

    assert status.phase is Phase.COMPLETE
    again = {name for name, turn in cluster.created if turn == 1}
    assert {name.split("-")[1] for name in again} == {"convert"}
    assert before.items() <= cluster.created.items()
    assert settle(cluster) == status


def test_a_stage_that_ran_out_of_memory_is_begun_anew_with_more(cluster: Cluster) -> None:
    """Raising it in the manifest is enough; why it is made again is written before the Job that says so is deleted."""
    until(cluster, "train")
    cluster.kill(job_of(cluster, "train"))
    assert settle(cluster).failure.failure is FailureClass.OUT_OF_MEMORY
    cluster.edit(stages=[{"name": "train", "resources": {"limits": {"memory": "64Gi"}}}])

    assert one_pass(cluster).actions == ()
    assert (cluster.status.stages[1].turn, cluster.status.phase) == (1, Phase.RUNNING)
    assert settle(cluster).phase is Phase.COMPLETE


def test_a_stage_that_ran_out_of_disk_is_begun_anew_with_more(cluster: Cluster) -> None:
    """A day later too, when its Job is gone: what it was for want of stands in its record."""
    until(cluster, "train")
    cluster.fail(job_of(cluster, "train"), FailureClass.DISK_FULL)
    assert settle(cluster).phase is Phase.FAILED
    cluster.now += SETTINGS.keep_jobs
    one_pass(cluster)
    cluster.collect()
    assert cluster.jobs == {}
    cluster.edit(gates={"minAnswersClean": 0.5})
    assert settle(cluster).phase is Phase.FAILED
    cluster.edit(stages=[{"name": "train", "resources": {"requests": {"ephemeral-storage": "90Gi"}}}])

    assert settle(cluster).phase is Phase.COMPLETE
    assert cluster.made.count("train") == 2


def test_a_training_that_ran_out_of_a_gpus_memory_is_begun_anew_with_another(cluster: Cluster) -> None:
    """Its failure says which would do; a person who changes something else has to ask."""
    cluster.edit(training={"gpu": {"memory": "24Gi"}})
    until(cluster, "train")
    cluster.fail(job_of(cluster, "train"), FailureClass.OUT_OF_MEMORY_GPU)
    failure = settle(cluster).failure
    assert failure is not None
    assert failure.failure is FailureClass.OUT_OF_MEMORY_GPU
    assert "tunesmith retry job" in failure.hint
    cluster.edit(training={"gpu": {"memory": "80Gi"}})

    assert settle(cluster).phase is Phase.COMPLETE
    assert cluster.made.count("train") == 2


@pytest.mark.parametrize(
    "failure",
    [
        FailureClass.OUT_OF_MEMORY,
        FailureClass.SECRET_MISSING,
        FailureClass.ACCESS_DENIED,
        FailureClass.DISK_FULL,
        FailureClass.QUOTA_EXCEEDED,
    ],
)
def test_an_upgrade_with_new_images_begins_nothing_anew(cluster: Cluster, failure: FailureClass) -> None:
    """Another template for all: what has failed waits for a person as before."""
    newer = {"images": {"trainer": "another"}, "placement": [{"name": "*", "nodeSelector": {"disk": "fast"}}]}
    until(cluster, "train")
    cluster.fail(job_of(cluster, "train"), failure)
    settle(cluster)

    assert one_pass(cluster, rules=rules_of(newer)).actions == ()
    assert cluster.status.phase is Phase.FAILED


def test_a_job_that_has_not_begun_gets_what_the_manifest_says_now(cluster: Cluster) -> None:
    """One that works is left alone."""
    until(cluster, "train")
    cluster.edit(stages=[{"name": "train", "resources": {"limits": {"memory": "64Gi"}}}])
    assert one_pass(cluster).actions == ()
    cluster.complete(job_of(cluster, "train"))
    one_pass(cluster)
    cluster.edit(stages=[{"name": "convert", "resources": {"limits": {"memory": "64Gi"}}}])
    (deleted,) = one_pass(cluster).actions
    assert deleted.name == job_of(cluster, "convert")


def test_a_damaged_artifact_is_made_again_by_its_maker(cluster: Cluster) -> None:
    """Contract 3: the stage that made it runs once with `replace`, then the one that has found it."""
    until(cluster, "convert")
    dataset = a_plan(cluster.spec).stage("prepare").key
    found = ArtifactReference(kind=Kind.DATASET, key=dataset)
    cluster.fail(job_of(cluster, "convert"), FailureClass.ARTIFACT_CORRUPT, found)

    status = settle(cluster)

    assert status.phase is Phase.COMPLETE
    again = {name.split("-")[1] for name, turn in cluster.created if turn == 1}
    assert again == {"prepare", "convert"}
    assert status.stages[0].replace


def test_damage_that_comes_back_is_a_failure(cluster: Cluster) -> None:
    """A store that damages what it was just given is not written to for ever."""
    found = ArtifactReference(kind=Kind.DATASET, key=a_plan(cluster.spec).stage("prepare").key)
    for _ in range(2):
        until(cluster, "convert")
        cluster.fail(job_of(cluster, "convert"), FailureClass.ARTIFACT_CORRUPT, found)

    assert settle(cluster).failure.failure is FailureClass.ARTIFACT_CORRUPT


def test_a_result_that_cannot_be_read_is_asked_for_again(cluster: Cluster) -> None:
    """Contract 5: the Job is made again, and the stage answers from its artifact."""
    until(cluster, "train")
    cluster.complete(job_of(cluster, "train"), message="")
    one_pass(cluster)
    assert state_of(cluster, "train") is StageState.WAITING

    assert settle(cluster).phase is Phase.COMPLETE
    assert cluster.made.count("train") == 2


def test_suspend_frees_what_runs_and_resume_goes_on(cluster: Cluster) -> None:
    """The stage's Job is deleted (its own suspend field is Kueue's); neither counts as a retry."""
    until(cluster, "train")
    cluster.edit(suspend=True)
    one_pass(cluster)
    assert cluster.jobs[job_of(cluster, "train")].deleting
    assert cluster.status.phase is Phase.RUNNING
    cluster.collect()
    one_pass(cluster)
    assert cluster.status.phase is Phase.SUSPENDED
    assert {c.type for c in cluster.status.conditions if c.status == "True"} == {"Suspended"}
    cluster.now += timedelta(hours=1)
    cluster.edit(suspend=False)

    status = settle(cluster)

    assert (status.phase, status.suspended_seconds) == (Phase.COMPLETE, 3600)
    assert {stage.turn for stage in status.stages} == {0}


def test_a_quantization_added_to_a_finished_job_runs_it_and_publish(cluster: Cluster) -> None:
    """Nothing else; the phase goes back to Running and then to Complete."""
    settle(cluster)
    before = set(cluster.created)
    cluster.edit(quantizations=[*TWO_TYPES, "Q6_K"])

    assert settle(cluster).phase is Phase.COMPLETE
    assert sorted(name.split("-")[1] for name, _ in set(cluster.created) - before) == ["publish", "quantize"]


def test_a_quantization_taken_away_is_not_waited_for(cluster: Cluster) -> None:
    """Its Job is deleted while it runs."""
    until(cluster, "quantize-Q8_0")
    name = job_of(cluster, "quantize-Q8_0")
    cluster.edit(quantizations=["Q4_K_M"])
    one_pass(cluster)

    assert cluster.jobs[name].deleting
    assert settle(cluster).phase is Phase.COMPLETE


def test_an_image_that_cannot_be_pulled_is_waited_for_with_patience(cluster: Cluster) -> None:
    """The status says why at once; after the stated time it fails and the Job goes."""
    one_pass(cluster)
    name = job_of(cluster, "prepare")
    pulling = ("ImagePullBackOff", "not found")
    pod = StagePod(name="pod", uid="u", created=cluster.now, waiting=pulling)
    cluster.jobs[name] = replace(cluster.jobs[name], pods=(pod,))
    decision = one_pass(cluster)
    assert "ImagePullBackOff: not found" in cluster.status.message
    assert decision.again == cluster.now + SETTINGS.image_patience

    cluster.now += SETTINGS.image_patience
    one_pass(cluster)
    one_pass(cluster)
    cluster.collect()
    one_pass(cluster)
    assert (cluster.status.phase, cluster.status.failure.failure) == (Phase.FAILED, FailureClass.IMAGE_PULL)
    assert not cluster.jobs


def test_the_deadline_ends_what_runs(cluster: Cluster) -> None:
    """It counts from the first Job on; a raised one lets the job go on."""
    cluster.edit(activeDeadlineSeconds=60)
    until(cluster, "train")
    cluster.now += timedelta(seconds=61)
    status = settle(cluster)
    assert (status.phase, status.failure.failure) == (Phase.FAILED, FailureClass.DEADLINE)

    cluster.edit(activeDeadlineSeconds=3600)
    assert settle(cluster).phase is Phase.COMPLETE


def test_jobs_are_kept_for_a_day_and_none_is_made_again(cluster: Cluster) -> None:
    """The status is the record; what is gone is not missed."""
    settle(cluster)
    made = dict(cluster.created)
    assert one_pass(cluster).again == cluster.status.finished + SETTINGS.keep_jobs
    cluster.now += SETTINGS.keep_jobs
    status = settle(cluster)

    assert (status.phase, cluster.jobs, cluster.created) == (Phase.COMPLETE, {}, made)


def test_an_upgrade_with_new_recipes_makes_nothing_again(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished or running: what has a Job or a result keeps its keys; only what is still to come gets new ones."""
    until(cluster, "convert")
    one_pass(cluster)
    for kind in Kind:
        monkeypatch.setitem(RECIPES, kind, RECIPES[kind] + 1)

    assert settle(cluster).phase is Phase.COMPLETE
    assert set(cluster.created.values()) == {1}
    assert len(cluster.created) == len(cluster.status.stages)
    for kind in Kind:
        monkeypatch.setitem(RECIPES, kind, RECIPES[kind] + 1)
    made = dict(cluster.created)
    settle(cluster)
    assert cluster.created == made


def test_an_upgrade_between_a_create_and_the_status_makes_no_second_job(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator is killed after the create; the next version knows the Job by the keys that it carries."""
    until(cluster, "train")
    cluster.complete(job_of(cluster, "train"))
    one_pass(cluster, writes=1)
    assert job_of(cluster, "convert")
    for kind in Kind:
        monkeypatch.setitem(RECIPES, kind, RECIPES[kind] + 1)

    assert settle(cluster).phase is Phase.COMPLETE
    assert [name for name, _ in cluster.created if name.startswith("job-convert")] == [job_of(cluster, "convert")]


def test_the_object_goes_when_its_time_to_live_is_over(cluster: Cluster) -> None:
    """Not before, and never what it made."""
    cluster.edit(ttlSecondsAfterFinished=100)
    settle(cluster)
    cluster.now = cluster.status.finished + timedelta(seconds=99)
    before = decide(cluster.world(), RULES)
    assert DeleteObject() not in before.actions
    assert before.again == cluster.now + timedelta(seconds=1)
    cluster.now += timedelta(seconds=1)
    assert decide(cluster.world(), RULES).actions == (DeleteObject(),)


def test_a_job_of_an_earlier_object_is_waited_for(cluster: Cluster) -> None:
    """Deleted and made again under the same name: the old one's Jobs are not ours."""
    one_pass(cluster)
    name = job_of(cluster, "prepare")
    cluster.jobs[name] = replace(cluster.jobs[name], owner="an earlier one")
    cluster.complete(name)
    cluster.answered.clear()
    assert started_by(cluster) == []
    assert state_of(cluster, "prepare") is StageState.WAITING
    del cluster.jobs[name]
    assert started_by(cluster) == ["prepare"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"datasets": [{"source": "file://rows.jsonl"}]}, "spec.datasets[0].source is file://rows.jsonl"),
        ({"model": {"source": "file:///model"}}, "spec.model.source is file:///model"),
        ({"store": {"uri": "file:///store"}}, "pods share no folder"),
        ({}, "the operator has no default one"),
    ],
)
def test_what_only_a_laptop_has_ends_the_job_in_the_first_pass(change: dict[str, object], said: str) -> None:
    """Contract 7; an edit of what may be edited, or a default store, lets it begin."""
    cluster = Cluster(spec=a_spec(**({"datasets": [{"source": "s3://a/b.jsonl"}]} | change)))
    rules = Rules(OperatorSettings(), RULES.job)

    assert one_pass(cluster, rules=rules).actions == ()
    assert (cluster.status.phase, cluster.status.failure.failure) == (Phase.FAILED, FailureClass.SPEC_INVALID)
    assert said in cluster.status.message


def test_a_retry_that_is_taken_away_again_asks_for_nothing(cluster: Cluster) -> None:
    """Tools that track a manifest take away what is not in it."""
    until(cluster, "convert")
    cluster.fail(job_of(cluster, "convert"), FailureClass.INTERNAL)
    settle(cluster)
    cluster.retry = "1"
    until(cluster, "convert")
    cluster.fail(job_of(cluster, "convert"), FailureClass.INTERNAL)
    failed = settle(cluster)
    cluster.retry = ""

    assert settle(cluster).stages == failed.stages


def test_a_spec_of_one_type(cluster: Cluster) -> None:
    """The smallest plan has a publish too."""
    cluster.spec = JobSpec.model_validate(cluster.spec.model_dump() | {"quantizations": ["Q8_0"]})
    assert settle(cluster).phase is Phase.COMPLETE


def test_a_quota_is_waited_for_and_an_invalid_job_is_not(cluster: Cluster) -> None:
    """What the API server said stands in the status at once."""
    world = replace(cluster.world(), refused={"prepare": (True, "exceeded quota: jobs")})
    waiting = decide(world, RULES).status
    assert (waiting.phase, waiting.message) == (Phase.PENDING, "prepare: its Job is refused: exceeded quota: jobs")

    never = decide(replace(world, refused={"prepare": (False, "metadata.annotations: Too long")}), RULES).status
    assert (never.phase, never.failure.failure) == (Phase.FAILED, FailureClass.SPEC_INVALID)
    assert "Too long" in never.message


def test_a_prepare_that_does_not_say_what_the_sources_are_fails(cluster: Cluster) -> None:
    """Another version's, for example: a class, a sentence, and a retry that runs it again."""
    until(cluster, "prepare")
    cluster.complete(job_of(cluster, "prepare"), message='{"stage": "prepare", "figures": {"resolved": {"model": 1}}}')
    status = settle(cluster)
    assert (status.phase, status.failure.failure) == (Phase.FAILED, FailureClass.INTERNAL)
    cluster.retry = "1"
    assert settle(cluster).phase is Phase.COMPLETE
