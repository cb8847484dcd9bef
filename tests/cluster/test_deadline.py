"""`spec.activeDeadlineSeconds`: the operator ends the job, and its Jobs do where the operator is down, alike."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.applied import SPEC, Applied
from support.control_plane import ControlPlane
from support.kubelet import Kubelet
from support.operator_process import applied, operator
from support.waiting import wait_until

SECONDS = 120.0
# The least that the API takes: tests say that the job has begun earlier.
LIMIT = 60


@pytest.fixture
def job(plane: ControlPlane, namespace: str) -> Applied:
    """One that has a minute."""
    limited = SPEC.model_copy(update={"active_deadline_seconds": LIMIT})
    return Applied(plane, Kubelet(plane, namespace), applied(plane, namespace, limited))


def running(job: Applied) -> None:
    """prepare's pod runs, and the status says so."""
    job.kubelet.begin(job.kubelet.pod_of("bot", "prepare"))
    job.until(lambda status: status.get("message") == "prepare running", "prepare to run")


def has_left(job: Applied, seconds: int) -> None:
    """So long until its deadline."""
    began = datetime.now(UTC) - timedelta(seconds=LIMIT - seconds)
    job.plane.patch(f"{job.path}/status", {"status": {"started": began.strftime("%Y-%m-%dT%H:%M:%SZ")}})


def job_of_prepare(job: Applied) -> dict[str, Any]:
    [found] = job.jobs()
    return found


def failed_of_its_deadline(job: Applied) -> None:
    """The end of a job that is late: its pods are gone, and no other Job is made."""
    status = job.is_in("Failed")
    assert status["failure"]["class"] == "Deadline"
    assert status["message"] == f"the job did not end within {LIMIT} s; what it has made is kept"
    assert {stage["state"] for stage in status["stages"]} == {"Waiting"}
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert (conditions["Finished"], conditions["Failed"], conditions["Complete"]) == ("True", "True", "False")
    assert job.plane.get(f"/api/v1/namespaces/{job.kubelet.namespace}/pods")["items"] == []
    assert len(job.plane.jobs_made(job.kubelet.namespace)) == 1


def test_the_operator_ends_a_job_that_is_late(job: Applied, tmp_path: Path) -> None:
    """By its own clock: no event comes then."""
    with operator(job.plane.kubeconfig, tmp_path, job.kubelet.namespace):
        running(job)
        has_left(job, 3)
        failed_of_its_deadline(job)

    assert job.jobs() == []


def test_a_job_that_is_late_while_the_operator_is_down_ends_alike(job: Applied, tmp_path: Path) -> None:
    """Its Job has a deadline of its own, a minute later; the operator says what has happened when it is back."""
    with operator(job.plane.kubeconfig, tmp_path, job.kubelet.namespace) as process:
        running(job)
        process.kill()
    made = job_of_prepare(job)
    assert LIMIT < made["spec"]["activeDeadlineSeconds"] <= LIMIT + 60
    has_left(job, 0)
    path = f"/apis/batch/v1/namespaces/{job.kubelet.namespace}/jobs/{made['metadata']['name']}"
    job.plane.patch(path, {"spec": {"activeDeadlineSeconds": 1}})

    def ended() -> bool:
        conditions = job_of_prepare(job)["status"].get("conditions", [])
        return ("Failed", "DeadlineExceeded") in {(each["type"], each["reason"]) for each in conditions}

    wait_until(ended, "the Job's own deadline", SECONDS)
    with operator(job.plane.kubeconfig, tmp_path, job.kubelet.namespace):
        failed_of_its_deadline(job)
