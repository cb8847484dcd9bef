"""A job as it stands in a cluster: whether it is over, where its store is, which stage and which pod are meant."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tunesmith.cli.standing import failure_lines, headline, news, standing
from tunesmith.cli.terminal import terminal
from tunesmith.cluster.connection import Connection
from tunesmith.cluster.jobs import read_jobs
from tunesmith.cluster.problem import ClusterProblem
from tunesmith.cluster.retrying import stages_to_retry
from tunesmith.cluster.seen import SeenJob, seen_job
from tunesmith.cluster.stage_logs import pod_to_read, stage_to_read
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import Stage, StoreLocation, failure_of

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def a_job(
    retry: str = "", store: dict[str, Any] | None = None, recorded: dict[str, Any] | None = None, **status: Any
) -> SeenJob:
    """A job of generation 2, which the operator has seen; its manifest's store, and the one that the status has."""
    annotations = {"tunesmith.dev/retry": retry} if retry else None
    meta = {"name": "bot", "namespace": "team", "uid": "uid", "resourceVersion": "7", "generation": 2}
    told = {"observedGeneration": 2, "store": recorded} | status
    return seen_job({"metadata": meta | {"annotations": annotations}, "spec": {"store": store}, "status": told})


def a_stage(name: str, state: str = "Waiting", **facts: Any) -> dict[str, Any]:
    return {"name": name, "state": state} | facts


def failing(failure: FailureClass, stage: Stage | None = Stage.TRAIN) -> dict[str, Any]:
    """A failure as the operator writes it."""
    return failure_of(StageFailure(failure, "it failed"), stage).to_json_dict()


@pytest.mark.parametrize(
    ("job", "settled"),
    [
        pytest.param(a_job(phase="Running"), False, id="it runs"),
        pytest.param(a_job(phase="Complete"), True, id="it is complete"),
        pytest.param(a_job(phase="Failed"), True, id="it has failed"),
        pytest.param(a_job(phase="Complete", observedGeneration=1), False, id="it was changed since"),
        pytest.param(a_job(retry="now", phase="Failed"), False, id="it is to be tried again"),
        pytest.param(a_job(retry="now", phase="Failed", retried="now"), True, id="it has failed again"),
        pytest.param(a_job(phase="Suspended"), False, id="it is suspended"),
    ],
)
def test_a_watch_ends_when_the_job_is_over(job: SeenJob, settled: bool) -> None:
    """And not while the operator has something to heed."""
    assert job.settled == settled


def test_the_store_is_the_one_that_the_operator_says() -> None:
    """Else the manifest's, with the names of its Secrets."""
    own = {"uri": "s3://own", "endpoint": "http://minio:9000", "secretRef": {"name": "s"}}

    assert a_job().store is None
    assert a_job(store=own).store == StoreLocation(
        uri="s3://own", endpoint="http://minio:9000", secret="s", namespace="team"
    )
    told = a_job(recorded={"uri": "s3://default", "secret": "d", "caSecret": "ca", "later": "unknown"}, store=own)
    assert told.store == StoreLocation(uri="s3://default", secret="d", ca_secret="ca", namespace="team")


def test_a_status_of_another_version_is_said() -> None:
    """No traceback of pydantic's."""
    with pytest.raises(ClusterProblem, match="another version"):
        a_job(phase="Pondering")


@pytest.mark.parametrize(
    ("stages", "asked", "meant"),
    [
        pytest.param([], None, "prepare", id="nothing has begun"),
        pytest.param([a_stage("prepare", "Done"), a_stage("train", "Running")], None, "train", id="what runs"),
        pytest.param([a_stage("prepare", "Failed"), a_stage("train")], None, "prepare", id="what failed"),
        pytest.param(
            [a_stage("prepare", "Done", started=NOON), a_stage("train")], None, "prepare", id="the last that began"
        ),
        pytest.param([a_stage("prepare", "Done"), a_stage("train", "Running")], "prepare", "prepare", id="asked for"),
        pytest.param([a_stage("prepare"), a_stage("quantize-Q8_0")], "quantize", "quantize-Q8_0", id="the only type"),
    ],
)
def test_the_stage_whose_log_is_meant(stages: list[dict[str, Any]], asked: str | None, meant: str) -> None:
    """Without a word from the user, the one that they want to know of."""
    assert stage_to_read(a_job(stages=stages).status, asked) == meant


@pytest.mark.parametrize("asked", ["trian", "quantize"])
def test_a_stage_that_there_is_not_once_is_refused_with_the_names(asked: str) -> None:
    """A wrong call: 2."""
    stages = [a_stage("prepare"), a_stage("quantize-Q8_0"), a_stage("quantize-Q4_K_M")]
    with pytest.raises(ClusterProblem) as refused:
        stage_to_read(a_job(stages=stages).status, asked)

    assert refused.value.code == 2
    assert "quantize-Q4_K_M" in refused.value.hint


def a_pod(name: str, stage: str, hour: int, state: str) -> dict[str, Any]:
    meta = {"name": name, "labels": {"tunesmith.dev/stage": stage}, "creationTimestamp": f"2026-11-27T{hour:02}:00:00Z"}
    return {"metadata": meta, "status": {"containerStatuses": [{"name": "stage", "state": {state: {}}}]}}


def test_the_newest_pod_that_has_begun_tells_its_log() -> None:
    """One that waits for its image has none."""
    pods = [
        a_pod("new", "train", 12, "waiting"),
        a_pod("running", "train", 11, "running"),
        a_pod("old", "train", 10, "terminated"),
        a_pod("other", "convert", 13, "running"),
        {"metadata": {"name": "bare", "labels": {}, "creationTimestamp": "2026-11-27T14:00:00Z"}},
    ]

    assert pod_to_read(pods, "train") == "running"
    assert pod_to_read(pods, "publish") is None


def test_what_a_retry_begins_anew() -> None:
    """The failed stages and those that wait for a store; after a deadline only the clock."""
    failed = a_job(phase="Failed", stages=[a_stage("train", "Failed")], failure=failing(FailureClass.OUT_OF_MEMORY))
    late = a_job(phase="Failed", stages=[a_stage("train")], failure=failing(FailureClass.DEADLINE, None))

    away = a_job(phase="Running", stages=[a_stage("train", awaySince="2026-11-28T12:00:00Z"), a_stage("convert")])

    assert stages_to_retry(failed) == stages_to_retry(away) == ("train",)
    assert stages_to_retry(late) == ()


@pytest.mark.parametrize(
    ("job", "said"),
    [
        pytest.param(a_job(phase="Running"), "nothing of bot has failed: it is Running", id="it runs"),
        pytest.param(
            a_job(phase="Failed", stages=[a_stage("publish", "Done")], failure=failing(FailureClass.GATE_FAILED)),
            "GateFailed",
            id="a gate",
        ),
        pytest.param(a_job(phase="Failed", failure=failing(FailureClass.SPEC_INVALID, None)), "SpecInvalid", id="spec"),
    ],
)
def test_a_retry_that_could_do_nothing_is_refused(job: SeenJob, said: str) -> None:
    """With what would help."""
    with pytest.raises(ClusterProblem, match=said) as refused:
        stages_to_retry(job)
    assert refused.value.hint


def test_the_headline_says_how_far_it_is() -> None:
    """And what nobody has heeded yet."""
    progress = {"stage": "train", "percent": 45, "step": 20, "steps": 44, "loss": 1.23456, "secondsLeft": 310}
    running = a_job(phase="Running", message="train running", progress=progress)
    assert headline(running) == (
        "bot: Running, 45 %, step 20 of 44 of train, loss 1.235, about 5m 10s of train left: train running"
    )
    fetching = {"stage": "train", "percent": 11, "phase": "fetching 15.2 GB"}
    at = headline(a_job(phase="Running", message="train running", progress=fetching))
    assert at == "bot: Running, 11 %, train fetching 15.2 GB: train running"
    done = a_job(phase="Complete", summary="3/3", message="all files are published", progress=progress, finished=NOON)
    assert headline(done) == "bot: Complete, 3/3 files passed their gates: all files are published"
    assert "no operator has looked at it" in headline(a_job(observedGeneration=-1))
    assert "not looked at its last change" in headline(a_job(phase="Complete", observedGeneration=1, finished=NOON))


def test_a_failure_is_told_with_what_helps() -> None:
    """The command for its log, and for another try where that can help."""
    again = "\n".join(failure_lines(a_job(phase="Failed", failure=failing(FailureClass.STORE_UNAVAILABLE))))
    never = "\n".join(failure_lines(a_job(phase="Failed", failure=failing(FailureClass.DATASET_INVALID))))

    assert "StoreUnavailable in train: it failed" in again
    assert "tunesmith logs bot" in again
    assert "tunesmith retry bot" in again
    assert "retry" not in never


def test_a_log_of_lines_tells_each_change_once() -> None:
    """What began, what ended, and where the job stands."""
    began = a_stage("prepare", "Running", started=NOON)
    result = {"stage": "prepare", "figures": {"rows": 60}}
    ended = a_stage("prepare", "Done", started=NOON, finished=NOON + timedelta(seconds=65), result=result)
    first = a_job(phase="Running", message="prepare running", stages=[began, a_stage("train")])
    second = a_job(phase="Running", message="train running", stages=[ended, a_stage("train", "Running", started=NOON)])

    assert news(None, first) == ["prepare: Running", "bot: Running: prepare running"]
    assert news(first, second) == [
        "prepare: Done, rows 60 [1m 05s]",
        "train: Running",
        "bot: Running: train running",
    ]
    assert news(second, second) == []


def test_everything_stands_in_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """Stages with their times, files with figures and verdicts; a message gives a terminal no orders."""
    stages = [
        a_stage("train", "Done", started=NOON, finished=NOON + timedelta(minutes=61), result={"stage": "train"}),
        a_stage("publish", "Waiting", message="its Job is refused: \x1b[2Jquota"),
    ]
    made = {"kind": "quantized", "name": "Q8_0", "key": "k" * 64, "file": "bot-Q8_0.gguf", "bytes": 145_000_000}
    made |= {"verdict": "Passed", "figures": {"perplexityIncrease": 0.01234}}
    terminal().print(standing(a_job(phase="Running", stages=stages, artifacts=[made]), NOON))
    told = capsys.readouterr().out

    assert "train    Done     2026-11-27 12:00:00  1h 01m" in told
    assert ["bot-Q8_0.gguf", "145", "Passed", "perplexityIncrease", "0.01234"] in [
        line.split() for line in told.splitlines()
    ]
    assert "\x1b" not in told
    assert "its Job is refused" in told


def test_a_status_of_another_version_keeps_no_other_job_from_the_list() -> None:
    """It is listed, with the sentence in place of what it has."""
    meta = {"name": "odd", "namespace": "team", "uid": "u", "resourceVersion": "1"}
    bodies = [{"metadata": meta, "status": {"phase": "Unheard"}}, {"metadata": meta | {"name": "bot"}, "status": {}}]
    connection = Answering("https://nowhere", None, {"items": bodies})

    seen = {each.name: each.status.message for each in read_jobs(connection, "team")}

    assert list(seen) == ["bot", "odd"]
    assert "another version has written it" in seen["odd"]


class Answering(Connection):
    """An API server that has one answer, its client."""

    def ask(self, *_: Any, **__: Any) -> tuple[int, dict[str, Any]]:
        return 200, self.client
