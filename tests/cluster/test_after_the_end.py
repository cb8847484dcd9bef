"""What becomes of a finished job after `spec.ttlSecondsAfterFinished`, and of its Jobs after keepJobsSeconds."""

from collections import Counter
from pathlib import Path

import pytest

from support.applied import SPEC, Applied
from support.builders import a_spec
from support.control_plane import ControlPlane
from support.kubelet import Kubelet
from support.operator_account import operator_account
from support.operator_process import SETTINGS, applied, operator
from support.small_cluster import ROWS
from support.waiting import wait_until
from tunesmith_api.failures import FailureClass
from tunesmith_api.spec import JobSpec

SECONDS = 120.0


def a_job(plane: ControlPlane, namespace: str, spec: JobSpec, name: str = "bot") -> Applied:
    return Applied(plane, Kubelet(plane, namespace), applied(plane, namespace, spec, name))


def without_jobs(job: Applied) -> bool:
    pods = job.plane.get(f"/api/v1/namespaces/{job.kubelet.namespace}/pods")["items"]
    return job.jobs() == [] and pods == []


@pytest.fixture
def account(plane: ControlPlane, namespace: str, tmp_path: Path) -> Path:
    """Of an operator with the rights that the chart gives it."""
    return operator_account(plane, tmp_path, namespace)


def test_a_job_is_deleted_when_its_time_to_live_is_over(
    plane: ControlPlane, namespace: str, account: Path, tmp_path: Path
) -> None:
    """By the operator; its Jobs and their pods go with it by the garbage collector."""
    job = a_job(plane, namespace, a_spec(datasets=ROWS, quantizations=["Q8_0"], ttlSecondsAfterFinished=1))
    with operator(account, tmp_path, namespace):
        job.done("prepare")
        job.kubelet.fail(job.kubelet.pod_of("bot", "train"), FailureClass.SPEC_INVALID)
        wait_until(lambda: plane.client.get(job.path).status_code == 404, "the job to be deleted", SECONDS)
        wait_until(lambda: without_jobs(job), "its Jobs and pods to go", SECONDS)

    writes = plane.writes_of_operator(namespace)
    assert [write for write in writes if write.startswith("delete")] == ["delete finetunejobs bot"]
    assert plane.stages_made(namespace) == ["prepare", "train"]


def test_jobs_that_are_kept_no_longer_are_not_made_again(
    plane: ControlPlane, namespace: str, account: Path, tmp_path: Path
) -> None:
    """What is done stands in the status alone then; an operator that knows nothing else begins nothing."""
    job = a_job(plane, namespace, SPEC)
    with operator(account, tmp_path, namespace, {**SETTINGS, "keepJobsSeconds": 1}):
        complete = job.completed()
        wait_until(lambda: without_jobs(job), "its Jobs and pods to go", SECONDS)
    with operator(account, tmp_path, namespace):
        # Another job's end shows that it has looked at this one.
        other = a_job(plane, namespace, SPEC, "other")
        other.kubelet.fail(other.kubelet.pod_of("other", "prepare"), FailureClass.SPEC_INVALID)
        other.is_in("Failed")

    assert job.status == complete
    made = Counter(plane.jobs_made(namespace))
    assert set(made.values()) == {1}
    assert len(made) == len(complete["stages"]) + 1
