"""What happens to jobs in a cluster, by a real API server and Job controller: edits, refusals, pods that go wrong."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.applied import SPEC, Applied
from support.builders import a_spec
from support.control_plane import ControlPlane
from support.kubelet import Kubelet
from support.operator_process import SETTINGS, applied, operator, phase_of
from support.waiting import wait_until
from tunesmith_api.names import STAGE_LABEL
from tunesmith_operator.settings import OperatorSettings

# Minutes together.
pytestmark = pytest.mark.slow

SECONDS = 120.0


@pytest.fixture
def job(plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Applied]:
    path = applied(plane, namespace, SPEC)
    with operator(plane.kubeconfig, tmp_path, namespace):
        yield Applied(plane, Kubelet(plane, namespace), path)


def stage(status: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in status["stages"] if each["name"] == name)


def test_suspended_in_training_it_frees_the_pod_and_goes_on(job: Applied) -> None:
    """The Job goes in the foreground, its pod with it; nothing counts as a retry."""
    job.done("prepare")
    job.kubelet.begin(job.kubelet.pod_of("bot", "train"))
    job.edit(suspend=True)
    job.is_in("Suspended")
    assert [pod["metadata"]["name"] for pod in job.kubelet.pods("bot")] == []
    assert stage(job.status, "train")["state"] == "Waiting"
    job.edit(suspend=False)
    job.completed()
    assert stage(job.status, "train").get("turn", 0) == 0


def test_a_job_of_others_that_has_the_name_is_told(job: Applied) -> None:
    """One that the operator does not watch, since it has none of its labels: the API server alone knows of it."""
    job.kubelet.begin(job.kubelet.pod_of("bot", "prepare"))
    [name] = [each["metadata"]["name"] for each in job.jobs()]
    job.edit(suspend=True)
    job.is_in("Suspended")
    jobs = f"/apis/batch/v1/namespaces/{job.kubelet.namespace}/jobs"
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "theirs"}]}}
    job.plane.create(jobs, {"metadata": {"name": name}, "spec": {"suspend": True, "template": template}})
    job.edit(suspend=False)

    job.until(lambda status: f"delete {name}" in status.get("message", ""), "the other Job to be told")
    job.plane.delete(f"{jobs}/{name}", propagationPolicy="Background")
    job.completed()


def test_a_quota_is_waited_for_and_said(job: Applied) -> None:
    """It goes on by itself when there is room."""
    quotas = f"/api/v1/namespaces/{job.kubelet.namespace}/resourcequotas"
    pod = job.kubelet.pod_of("bot", "prepare")
    hard = {"count/jobs.batch": "1"}
    job.plane.create(quotas, {"metadata": {"name": "few"}, "spec": {"hard": hard}})
    wait_until(
        lambda: (job.plane.get(f"{quotas}/few").get("status") or {}).get("used") == hard,
        "the quota to be used",
        SECONDS,
    )
    job.kubelet.begin(pod)
    job.kubelet.end_well(pod, SPEC)

    status = job.until(lambda status: "exceeded quota" in status.get("message", ""), "the quota to be told")
    assert status["phase"] == "Running"
    job.plane.delete(f"{quotas}/few")
    job.completed()


def test_an_image_whose_name_is_none_fails_at_once(job: Applied) -> None:
    """And names what the kubelet said."""
    pod = job.kubelet.pod_of("bot", "prepare")
    job.kubelet.wait(pod, "InvalidImageName", "couldn't parse image name")
    failure = job.is_in("Failed")["failure"]
    assert failure["class"] == "ImagePull"
    assert "couldn't parse image name" in failure["message"]


def test_what_would_change_the_weights_is_refused_and_another_quantization_is_added(job: Applied) -> None:
    """To a finished job: one quantize and one publish run, and nothing else."""
    job.completed()
    before = Counter(job.plane.jobs_made(job.kubelet.namespace))
    refused = job.plane.client.patch(
        job.path,
        json={"spec": {"training": {"seed": 7}}},
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert refused.status_code == 422
    assert "seed" in refused.json()["message"]

    two = SPEC.model_copy(update={"quantizations": a_spec(quantizations=["Q8_0", "Q4_K_M"]).quantizations})
    job.edit(quantizations=["Q8_0", "Q4_K_M"])
    job.completed(two)
    after = Counter(job.plane.jobs_made(job.kubelet.namespace)) - before
    # An importance matrix is asked for by the smaller types.
    ran = sorted(name.removeprefix("bot-").partition("-")[0] for name in after)
    assert ran in (["publish", "quantize"], ["imatrix", "publish", "quantize"]), after


def test_a_job_of_the_same_name_begins_anew(job: Applied) -> None:
    """What belonged to the one that was deleted goes with it, and is never taken for its own."""
    job.done("prepare")
    old = job.kubelet.pod_of("bot", "train")
    uid = job.object["metadata"]["uid"]
    job.plane.delete(job.path, propagationPolicy="Background")
    applied(job.plane, job.kubelet.namespace, SPEC)
    wait_until(lambda: job.object["metadata"]["uid"] != uid, "the new job", SECONDS)
    job.completed()
    owners = {job_["metadata"]["ownerReferences"][0]["uid"] for job_ in job.jobs()}
    assert owners == {job.object["metadata"]["uid"]}
    assert old["metadata"]["uid"] not in [pod["metadata"]["uid"] for pod in job.kubelet.pods("bot")]


def test_two_operators_make_no_job_twice(job: Applied, tmp_path: Path) -> None:
    """By mistake, side by side; each obeys what the other has written."""
    (tmp_path / "other").mkdir()
    with operator(job.plane.kubeconfig, tmp_path / "other", job.kubelet.namespace):
        job.completed()

    assert set(Counter(job.plane.jobs_made(job.kubelet.namespace)).values()) == {1}


def test_two_jobs_of_the_same_sources_do_not_meet(job: Applied) -> None:
    """They need the same base at the same time: each has its own Jobs, and takes none of the other's for its own."""
    namespace = job.kubelet.namespace
    other = applied(job.plane, namespace, SPEC, "bot2")

    def over() -> bool:
        for name in ("bot", "bot2"):
            job.kubelet.carry_on(name, SPEC)
        return [phase_of(job.plane, path) for path in (job.path, other)] == ["Complete", "Complete"]

    wait_until(over, "both jobs to be complete", SECONDS)
    made = Counter(job.plane.jobs_made(namespace))
    assert set(made.values()) == {1}
    assert len(made) == 2 * len(job.status["stages"])


def test_an_upgrade_in_the_middle_makes_no_job_again(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """New images: what runs goes on with the image that it has, what has not begun takes the new one."""
    kubelet = Kubelet(plane, namespace)
    path = applied(plane, namespace, SPEC)
    with operator(plane.kubeconfig, tmp_path, namespace):
        prepare = kubelet.pod_of("bot", "prepare")
        kubelet.begin(prepare)
        kubelet.end_well(prepare, SPEC)
        kubelet.begin(kubelet.pod_of("bot", "train"))
    images = {"trainer": "registry/trainer:new", "gguf": "registry/gguf:new"}
    with operator(plane.kubeconfig, tmp_path, namespace, {**SETTINGS, "images": images}):
        upgraded = Applied(plane, kubelet, path)
        upgraded.completed()

    assert set(Counter(plane.jobs_made(namespace)).values()) == {1}
    image = {
        job["metadata"]["labels"][STAGE_LABEL]: job["spec"]["template"]["spec"]["containers"][0]["image"]
        for job in upgraded.jobs()
    }
    assert (image["train"], image["convert"]) == (OperatorSettings().images.trainer, "registry/trainer:new")
