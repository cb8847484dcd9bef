"""What keeps a job waiting, and what ends the waiting, where only the API server's own events say why."""

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

# Minutes together: what is silent is asked about after ten seconds.
pytestmark = pytest.mark.slow


@pytest.fixture
def kubelet(plane: ControlPlane, namespace: str) -> Kubelet:
    return Kubelet(plane, namespace)


def a_job(kubelet: Kubelet, spec: JobSpec, name: str = "bot") -> Applied:
    return Applied(kubelet.plane, kubelet, applied(kubelet.plane, kubelet.namespace, spec, name))


def test_a_quota_without_room_is_told_and_waited_for(kubelet: Kubelet, tmp_path: Path) -> None:
    """The Job has no pod, and no field of it says why; when there is room it goes on by itself.

    The chart's rights suffice to be told.
    """
    account = operator_account(kubelet.plane, tmp_path, kubelet.namespace)
    with operator(account, tmp_path, kubelet.namespace):
        other = a_job(kubelet, SPEC, "other")
        kubelet.pod_of("other", "prepare")
        quota = kubelet.plane.limit(kubelet.namespace, {"pods": "1"})
        job = a_job(kubelet, SPEC)

        status = job.until(lambda status: "exceeded quota: small" in status.get("message", ""), "the quota to be told")
        assert status["phase"] == "Pending"
        assert status["message"].startswith("prepare: no pod can be made for it: ")
        kubelet.plane.delete(quota)
        kubelet.plane.delete(other.path)
        job.completed()


def test_a_quota_that_is_too_small_for_a_pod_ends_the_job(kubelet: Kubelet, tmp_path: Path) -> None:
    """It says what was asked for and what there is."""
    kubelet.plane.limit(kubelet.namespace, {"requests.memory": "1Mi"})
    settings = {**SETTINGS, "imagePatienceSeconds": 5}
    with operator(kubelet.plane.kubeconfig, tmp_path, kubelet.namespace, settings):
        failure = a_job(kubelet, SPEC).is_in("Failed")["failure"]

    assert failure["class"] == "QuotaExceeded"
    assert failure["message"].startswith("prepare asks for requests.memory ")
    assert failure["message"].endswith(", and the quota small has 1Mi for all")


def test_a_priority_class_that_is_absent_ends_the_job_after_a_while(kubelet: Kubelet, tmp_path: Path) -> None:
    """It is named."""
    spec = a_spec(datasets=ROWS, quantizations=["Q8_0"], stages=[{"name": "*", "priorityClassName": "nobody"}])
    settings = {**SETTINGS, "imagePatienceSeconds": 5}
    with operator(kubelet.plane.kubeconfig, tmp_path, kubelet.namespace, settings):
        failure = a_job(kubelet, spec).is_in("Failed")["failure"]

    assert failure["class"] == "SpecInvalid"
    assert "no PriorityClass with name nobody was found" in failure["message"]


def test_a_store_that_is_away_fails_no_job(kubelet: Kubelet, tmp_path: Path) -> None:
    """When its Job has given up, the stage is begun anew after a minute."""
    with operator(kubelet.plane.kubeconfig, tmp_path, kubelet.namespace):
        job = a_job(kubelet, a_spec(datasets=ROWS, quantizations=["Q8_0"], backoffLimit=0))
        job.done("prepare")
        pod = kubelet.pod_of("bot", "train")
        kubelet.begin(pod)
        kubelet.fail(pod, FailureClass.STORE_UNAVAILABLE)

        status = job.until(lambda status: "the store is away since" in status["message"], "the store to be told")
        assert status["phase"] == "Running"
        job.completed()
    assert [stage["turn"] for stage in job.status["stages"] if stage["name"] == "train"] == [1]


def test_a_spec_that_only_the_operator_refuses_leaves_nothing_waiting(kubelet: Kubelet, tmp_path: Path) -> None:
    """What has not begun is deleted, as after any failure: it would begin by the old spec whenever there is room."""
    with operator(kubelet.plane.kubeconfig, tmp_path, kubelet.namespace):
        job = a_job(kubelet, SPEC)
        kubelet.pod_of("bot", "prepare")
        job.edit(stages=[{"name": "train", "nodeSelector": {"a b": "x"}}])
        assert job.is_in("Failed")["failure"]["class"] == "SpecInvalid"
        jobs = f"/apis/batch/v1/namespaces/{kubelet.namespace}/jobs"
        wait_until(lambda: kubelet.plane.get(jobs)["items"] == [], "the Job to go", 60)

        job.edit(stages=[{"name": "train", "nodeSelector": {"zone": "x"}}])
        job.completed()


def test_a_spec_that_only_the_operator_refuses_says_so_and_can_be_corrected(kubelet: Kubelet, tmp_path: Path) -> None:
    """The API server does not look at the keys of a map. It has not failed as long as a pod of it runs."""
    with operator(kubelet.plane.kubeconfig, tmp_path, kubelet.namespace):
        job = a_job(kubelet, SPEC)
        pod = kubelet.pod_of("bot", "prepare")
        kubelet.begin(pod)
        job.edit(stages=[{"name": "train", "nodeSelector": {"a b": "x"}}])
        status = job.until(lambda status: "failure" in status, "the spec to be refused")
        assert (status["phase"], status["failure"]["class"]) == ("Running", "SpecInvalid")
        assert "waiting for what still runs to end" in status["message"]

        kubelet.end_well(pod, SPEC)
        status = job.is_in("Failed")
        assert status["failure"]["message"].startswith("spec.stages[0].nodeSelector")

        job.edit(stages=[{"name": "train", "nodeSelector": {"zone": "x"}}])
        job.completed()
