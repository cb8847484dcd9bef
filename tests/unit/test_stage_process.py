"""A stage as a process of its own: what it refuses, how it ends, what it leaves in the store."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunesmith.local.processes import CONSOLE, RESULT, StageProcess, start
from tunesmith.store import Artifacts, FolderStore
from tunesmith.store.logs import list_logs
from tunesmith_api.failures import FAILURES, FailureClass
from tunesmith_api.stages import ArtifactReference, JobReference, Kind, Stage, StageRequest, StageResult, StoreLocation


def a_request(store: Path, stage: Stage = Stage.IMATRIX) -> StageRequest:
    """A call with one input and one output."""
    return StageRequest(
        stage=stage,
        job=JobReference(name="job", namespace="default", uid="u"),
        store=StoreLocation(uri=str(store)),
        inputs=(ArtifactReference(kind=Kind.GGUF, key="key-of-gguf"),),
        outputs=(ArtifactReference(kind=Kind.IMATRIX, key="key-of-imatrix"),),
    )


def ended(request: StageRequest, scratch: Path) -> tuple[int, StageResult]:
    """Run the stage; its exit code and its result."""
    process = start(request.stage.value, request, scratch, {})
    result = process.result()
    return process.process.returncode, result


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"schemaVersion": 2}, "of another version", id="of a later Tunesmith"),
        pytest.param({"stage": "train"}, "the request is for train, the call for imatrix", id="of another stage"),
    ],
)
def test_a_request_that_it_does_not_know_is_refused(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    """Contract 1: rather no work than work on something else; and the answer is a result all the same."""
    text = json.dumps(a_request(tmp_path / "store").model_dump(mode="json", by_alias=True, exclude_none=True) | changes)
    (tmp_path / "request.json").write_text(text)
    call = ["-m", "tunesmith_trainer", "imatrix", "--request", "request.json", "--result", "result.json"]
    ran = subprocess.run([sys.executable, *call], cwd=tmp_path, check=False)

    result = StageResult.model_validate_json((tmp_path / "result.json").read_bytes())
    assert ran.returncode == FAILURES[FailureClass.INTERNAL].exit_code
    assert result.failure is not None
    assert says in result.failure.message
    assert not (tmp_path / "store").exists()


def test_a_stage_s_log_is_in_the_store_however_it_ends(tmp_path: Path) -> None:
    """Contract 5; the exit code is the failure's own (contract 10), and the input that is missing is named."""
    store, request = FolderStore(tmp_path / "store"), a_request(tmp_path / "store")
    code, failed = ended(request, tmp_path / "first")

    assert failed.failure is not None
    assert (failed.failure.failure, code) == (FailureClass.ARTIFACT_CORRUPT, 26)
    assert failed.failure.artifact == request.inputs[0]
    [log] = list_logs(store, "default", "imatrix", "key-of-imatrix")
    assert b"ArtifactCorrupt: the gguf artifact key-of-gguf is not in the store" in store.read_bytes(log)

    (tmp_path / "made").mkdir()
    Artifacts(store, "default").commit(Kind.IMATRIX, "key-of-imatrix", tmp_path / "made")
    code, reused = ended(request, tmp_path / "second")
    assert (code, reused.failure, reused.reused) == (0, None, True)
    assert len(list_logs(store, "default", "imatrix", "key-of-imatrix")) == 2


def test_every_class_has_an_exit_code_of_its_own() -> None:
    """Contract 10; none that Python, a shell or a signal gives a meaning to."""
    codes = [rule.exit_code for rule in FAILURES.values()]

    assert set(FAILURES) == set(FailureClass)
    assert len(set(codes)) == len(codes)
    assert 2 < min(codes) <= max(codes) < 126


@pytest.mark.parametrize(
    ("script", "failure", "says"),
    [
        pytest.param("kill -KILL $$", FailureClass.OUT_OF_MEMORY, "memory ran out", id="P26: killed by the kernel"),
        pytest.param("kill -TERM $$", FailureClass.INTERRUPTED, "before it could save", id="before it listens"),
        pytest.param("exit 23", FailureClass.DISK_FULL, "code 23", id="a code of the table"),
        pytest.param("echo no such module; exit 1", FailureClass.INTERNAL, "no such module", id="Python's own code"),
        pytest.param(f"echo '{{' > {RESULT}; exit 25", FailureClass.STORE_FULL, "code 25", id="half a result"),
    ],
)
def test_what_a_stage_without_a_result_died_of(tmp_path: Path, script: str, failure: FailureClass, says: str) -> None:
    """By its exit code or signal, and the last line that it wrote."""
    with (tmp_path / CONSOLE).open("wb") as console:
        died = subprocess.Popen(["sh", "-c", script], cwd=tmp_path, stdout=console)
    result = StageProcess("train", a_request(tmp_path), tmp_path, died, time.monotonic()).result()

    assert result.failure is not None
    assert result.failure.failure is failure
    assert says in result.failure.message
    assert result.failure.retry_helps is FAILURES[failure].retry_helps


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        pytest.param("kill -STOP $$", FailureClass.INTERRUPTED, id="a second Ctrl-C"),
        pytest.param("kill -KILL $$", FailureClass.OUT_OF_MEMORY, id="P26: the kernel was first"),
    ],
)
def test_whoever_killed_a_stage_is_told_from_the_kernel(tmp_path: Path, script: str, failure: FailureClass) -> None:
    """A person who ends a run at once reads of no lack of memory; one whose memory ran out does, whatever follows."""
    died = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    os.waitid(os.P_PID, died.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    process = StageProcess("train", a_request(tmp_path), tmp_path, died, time.monotonic())
    process.kill()
    process.kill()
    result = process.result()

    assert result.failure is not None
    assert result.failure.failure is failure
