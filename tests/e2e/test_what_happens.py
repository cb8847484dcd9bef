"""What happens to jobs in a real cluster: pods that go away, manifests that are wrong, a store that is away."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.real_cluster.asking import kubectl, node
from support.real_cluster.installed import BUCKET, NAMESPACE, SECRET, minio, without_operator
from support.real_cluster.jobs import LONG, SECONDS, STEPS, RealJob, stage_of
from support.real_cluster.layout import Layout, Origin
from support.real_cluster.lifecycle import GPU
from support.real_cluster.pods import occupied
from support.servers import SECRET_KEY
from support.waiting import wait_until

# What the garbage collector, the Job controller and the kubelet need beside a pod's own grace, on slow cores (seconds).
LATER = 30.0


def test_suspended_drained_and_killed_in_the_middle_it_ends_as_if_nothing_had_been(small: RealJob) -> None:
    """A suspension saves at the running step; a pod that is evicted, or taken without its grace, loses at most what was
    since the last checkpoint. Only the latter, of whose end nobody has heard, counts as one of `backoffLimit`."""
    job = small.another("long", training=LONG | {"seed": 11}, backoffLimit=1)
    reached = job.trained(3)["progress"]["step"]
    job.edit(suspend=True)
    status = job.until(lambda status: status["phase"] == "Suspended", "the job to be suspended")
    assert status["checkpoint"]["step"] >= reached - 1
    assert job.pods("train") == []

    job.edit(suspend=False)
    assert goes_on_from(job) >= reached - 1
    reached = job.trained(status["checkpoint"]["step"] + 3)["progress"]["step"]
    [pod] = job.pods("train")
    drain(job)
    assert goes_on_from(job, pod) >= reached - LONG["saveEvery"]
    reached = job.trained(reached + 3)["progress"]["step"]
    [pod] = job.pods("train")
    job.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    assert goes_on_from(job, pod) >= reached - LONG["saveEvery"]
    status = job.ended()

    figures = stage_of(status, "train")["result"]["figures"]
    assert figures["steps"] == STEPS
    assert figures["resumedFrom"] >= reached - LONG["saveEvery"]
    assert "turn" not in stage_of(status, "train")


def goes_on_from(job: RealJob, gone: str = "") -> int:
    """The step from which the training's next pod goes on, once the one before it is gone."""
    found: list[str] = []

    def told() -> bool:
        assert job.status()["phase"] != "Failed"
        if gone not in job.pods("train", ended=True):
            found[:] = re.findall(r"going on from step (\d+)", job.logs("train"))
        return bool(found)

    wait_until(told, "the training to go on", SECONDS, every=0.5)
    return int(found[-1])


def drain(job: RealJob) -> None:
    """Evict the job's pods from the node, which takes pods again afterwards."""
    name = node(job.cluster)
    whose = [f"--pod-selector=tunesmith.dev/job={job.name}", "--delete-emptydir-data", "--timeout=600s"]
    try:
        kubectl(job.cluster, "drain", name, *whose)
    finally:
        kubectl(job.cluster, "uncordon", name)


def test_a_job_that_is_deleted_leaves_no_pod_with_the_operator_down_too(small: RealJob) -> None:
    """Its pods are told at once and are gone within their grace; what was made stays."""
    job = small.another("deleted", training=LONG | {"seed": 12})
    job.trained(2)
    before = artifacts(job)
    [pod] = job.pods("train")
    grace = float(job.kubectl("get", "pod", pod, "--output=jsonpath={.spec.terminationGracePeriodSeconds}"))
    with without_operator(job.cluster):
        job.kubectl("delete", "ftj/deleted", "--wait=false")
        wait_until(lambda: job.pods("train", ended=True) == [], "the pod to go", grace + LATER, every=0.5)

    assert before
    assert artifacts(job) >= before


def artifacts(job: RealJob) -> set[str]:
    """The objects of the artifacts of the job's namespace."""
    found = minio().client().list_objects(BUCKET, prefix=f"{job.namespace}/artifacts/", recursive=True)
    return {str(each.object_name) for each in found}


@pytest.mark.slow
def test_memory_that_does_not_suffice_is_told_and_can_be_raised(small: RealJob) -> None:
    """The kernel ends it; with more in the manifest the stage runs again, and no other."""
    limit = [{"name": "train", "resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "200Mi"}}}]
    job = small.another("hungry", training=LONG | {"seed": 13, "maxSteps": 4}, stages=limit, backoffLimit=0)
    status = job.ended("Failed")
    assert status["failure"]["class"] == "OutOfMemory"
    assert "resources.limits.memory" in status["failure"]["hint"]

    job.edit(stages=[{"name": "train", "resources": {"limits": {"memory": "4Gi"}}}])
    status = job.ended()
    assert [stage["name"] for stage in status["stages"] if stage.get("turn")] == ["train"]


def test_what_no_node_has_is_waited_for_and_told(small: RealJob) -> None:
    """A GPU with more memory than any: the status says so, an event says it once, and prepare has run."""
    job = small.another("greedy", training=LONG | {"seed": 14, "gpu": {"memory": "9Ti"}})
    status = job.until(
        lambda status: any("no node" in stage.get("message", "") for stage in status.get("stages", [])), "the message"
    )

    assert stage_of(status, "prepare")["state"] == "Done"
    assert "no node for its pod" in status["message"]
    events = json.loads(job.kubectl("get", "events", "--field-selector=reason=Waiting", "--output=json"))["items"]
    assert [event["type"] for event in events if event["involvedObject"]["name"] == "greedy"] == ["Warning"]
    job.kubectl("delete", "ftj/greedy")


@contextmanager
def l4_held(small: RealJob) -> Iterator[None]:
    """Within it the node's only GPU is held by another pod, and labelled as GPU feature discovery labels an L4."""
    if small.cluster.origin is not Origin.BUILT:
        pytest.skip("what this cluster's nodes have is not ours to say")
    kubectl(small.cluster, "label", "node", str(node(small.cluster)), "nvidia.com/gpu.memory=23034", "--overwrite")
    with occupied(small.cluster, small.namespace, GPU):
        yield


def waiting_for_the_gpu(small: RealJob, name: str, memory: str, seed: int, priority: int = 0) -> RealJob:
    """A job whose training waits for it."""
    training = LONG | {"seed": seed, "gpu": {"memory": memory}}
    job = small.another(name, training=training, priority=priority, backoffLimit=0)
    job.until(lambda status: f"Insufficient {GPU}" in status["message"], "the job to wait for the GPU")
    return job


@pytest.mark.slow
def test_a_gpu_that_another_pod_holds_is_waited_for_and_then_taken(small: RealJob) -> None:
    """By the scheduler, on a node whose label says what an L4 shows of its 24 GB; torch then finds none in it."""
    with l4_held(small):
        job = waiting_for_the_gpu(small, "queued", "24Gi", seed=15)
    status = job.ended("Failed")

    assert (status["failure"]["class"], status["failure"]["stage"]) == ("Unschedulable", "train")
    assert "torch finds none" in status["failure"]["message"]
    assert status["gpuSeconds"] > 0


@pytest.mark.slow
def test_of_two_that_wait_for_a_gpu_the_more_urgent_one_is_first(small: RealJob) -> None:
    """By the scheduler, though it has come later."""
    with l4_held(small):
        both = [
            waiting_for_the_gpu(small, name, "16Gi", seed, priority)
            for name, seed, priority in (("patient", 18, 0), ("urgent", 19, 5))
        ]
    patient, urgent = (stage_of(job.ended("Failed"), "train") for job in both)

    assert urgent["finished"] < patient["finished"]


@pytest.mark.slow
def test_the_other_engine_trains_in_its_image(small: RealJob) -> None:
    """Unsloth writes what it compiles: it may write to scratch alone."""
    job = small.another("other", training=LONG | {"seed": 16, "maxSteps": 2, "engine": "Unsloth"}, backoffLimit=0)

    assert stage_of(job.ended(), "train")["result"]["figures"]["steps"] == 2


def test_a_wrong_dataset_and_wrong_secrets_fail_before_anything_is_trained(small: RealJob) -> None:
    """With the rows, and with the Secret's name, that of the hub for the result too; one whose keys are nobody's."""
    client = minio().client()
    rows = b'{"messages": [{"role": "user", "content": "a"}]}\n{"messages": [{"role": "robot", "content": "b"}]}\n'
    client.put_object(BUCKET, "sources/broken.jsonl", io.BytesIO(rows), len(rows))
    secret = {"secretRef": {"name": SECRET}}
    broken = small.another("broken", datasets=[{"source": f"s3://{BUCKET}/sources/broken.jsonl", **secret}])
    absent = {"secretRef": {"name": "absent"}}
    keyless = small.another("keyless", model={"source": f"s3://{BUCKET}/sources/two-layers", **absent})

    hub = {"hub": {"repo": "org/name", **absent}}
    mute = small.another("mute", publish=hub)

    keys = {"accessKey": "nobody", "secretKey": "nothing-at-all"}
    secret_of_nobody = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "nobody"}, "stringData": keys}
    small.kubectl("apply", "--filename=-", given=json.dumps(secret_of_nobody))
    nobody = {"secretRef": {"name": "nobody"}}
    stranger = small.another("stranger", model={"source": f"s3://{BUCKET}/sources/two-layers", **nobody})

    failure = broken.ended("Failed")["failure"]
    assert (failure["class"], failure["stage"]) == ("DatasetInvalid", "prepare")
    for job in (keyless, mute):
        failure = job.ended("Failed")["failure"]
        assert (failure["class"], failure["stage"]) == ("SecretMissing", "prepare")
        assert "absent" in failure["message"]
        assert {stage["name"] for stage in job.status()["stages"]} == {"prepare"}
    failure = stranger.ended("Failed")["failure"]
    assert (failure["class"], failure["stage"]) == ("AccessDenied", "prepare")


def test_a_source_that_is_not_there_is_not_tried_again(small: RealJob) -> None:
    """The service has answered: another pod would be told the same."""
    absent = {"source": f"s3://{BUCKET}/sources/nowhere.jsonl", "secretRef": {"name": SECRET}}
    job = small.another("nowhere", datasets=[absent])
    failure = job.ended("Failed")["failure"]

    assert (failure["class"], failure["stage"]) == ("SourceAbsent", "prepare")
    assert "nowhere.jsonl" in failure["message"]
    assert len(job.pods("prepare", ended=True)) == 1


def test_no_pod_has_a_token_for_the_api_server(cluster: Layout, small: RealJob) -> None:
    """Nor any right, nor a writable root; what it shows to the operator opens nothing else."""
    ours = ["--selector=tunesmith.dev/job", "--output=json"]
    pods = json.loads(kubectl(cluster, "--namespace", small.namespace, "get", "pods", *ours))["items"]
    assert pods
    for pod in pods:
        assert not pod["spec"]["automountServiceAccountToken"]
        tokens = [
            source["serviceAccountToken"]["audience"]
            for volume in pod["spec"]["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
        ]
        assert tokens == ["tunesmith.dev/progress"]
        assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"]


def test_no_secret_is_told_anywhere(cluster: Layout, small: RealJob) -> None:
    """Of all that the jobs of this folder have left: objects, events, logs of pods and of the store, the operator's."""
    objects = small.kubectl("get", "ftj,jobs,pods,events,configmaps", "--output=yaml")
    pods = small.kubectl("get", "pods", "--selector=tunesmith.dev/job", "--output=name").split()
    logs = [small.kubectl("logs", pod, "--tail=-1", "--ignore-errors") for pod in pods]
    operator = kubectl(cluster, "--namespace", NAMESPACE, "logs", "deployment/tunesmith", "--tail=-1")
    client = minio().client()
    stored = [
        client.get_object(BUCKET, str(each.object_name)).data.decode(errors="replace")
        for each in client.list_objects(BUCKET, prefix=f"{small.namespace}/logs/", recursive=True)
    ]

    assert "prepare" in objects
    assert operator
    assert any(logs)
    assert any(stored)
    for text in (objects, *logs, operator, *stored):
        assert SECRET_KEY not in text
