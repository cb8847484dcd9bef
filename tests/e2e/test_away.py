"""What a job needs and is not there for a while: the store, an image; and the outside, which nothing here can reach."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.real_cluster.asking import kubectl
from support.real_cluster.installed import NAMESPACE, install
from support.real_cluster.jobs import LONG, STEPS, RealJob, stage_of
from support.real_cluster.layout import Origin
from support.real_cluster.lifecycle import without
from support.real_cluster.pods import run_pod
from support.waiting import wait_until

# What the rule of network.py answers; a router on the way would let it wait.
OUTWARDS = """
import errno, socket
try:
    socket.create_connection(("198.51.100.1", 443), timeout=60)
except OSError as error:
    open("/dev/termination-log", "w").write(errno.errorcode.get(error.errno, str(error)))
"""
# A stage that is tried again waits ten seconds at first, twice as long each time (Kubernetes, Job, backoffLimit).
SECONDS = 300.0


@contextmanager
def installed_with(job: RealJob, **config: Any) -> Iterator[None]:
    """Within it the chart is installed with other settings."""
    install(job.cluster, **config)
    try:
        yield
    finally:
        install(job.cluster)


@pytest.mark.slow
def test_a_store_that_is_away_during_a_training_is_waited_for(small: RealJob) -> None:
    """MinIO ends, so that a checkpoint cannot be stored, for longer than stage and Job try; then the job goes on.

    By itself, and from the last checkpoint that was stored.
    """
    job = small.another("storeless", training=LONG | {"seed": 21}, backoffLimit=0)
    job.trained(LONG["saveEvery"] + 1)
    with without(job.cluster, "minio"):
        wait_until(lambda: "does not answer" in job.logs("train"), "the stage to tell that the store is away", SECONDS)
        waits = job.until(
            lambda status: "the store is away since" in status["message"], "the job to wait for the store"
        )
    train = stage_of(job.ended(), "train")

    assert waits["phase"] == "Running"
    assert train["turn"] >= 1
    assert train["result"]["figures"]["steps"] == STEPS
    assert train["result"]["figures"]["resumedFrom"] >= LONG["saveEvery"]


@pytest.mark.slow
def test_a_node_that_is_lost_is_told_and_no_second_pod_is_made_beside_its(small: RealJob) -> None:
    """Its kubelet is gone while a pod is to go: nobody knows whether that still writes. The job goes on with it."""
    if small.cluster.origin is not Origin.BUILT:
        pytest.skip("the kubelet of this cluster is not ours to end")
    job = small.another("nodeless", training=LONG | {"seed": 22}, backoffLimit=0)
    job.trained(LONG["saveEvery"] + 1)
    with without(job.cluster, "kubelet"):
        [pod] = job.pods("train")
        job.kubectl("delete", "pod", pod, "--wait=false")
        waits = job.until(lambda status: "node is lost" in status["message"], "the job to tell of the node")
        assert job.pods("train") == [pod]
    train = stage_of(job.ended(), "train")

    assert waits["phase"] == "Running"
    # Its container has heard of nothing, and may have trained to its end meanwhile.
    assert "turn" not in train
    assert train["result"]["figures"]["steps"] == STEPS


@pytest.mark.slow
def test_an_image_that_is_not_there_fails_after_the_patience_and_a_retry_goes_on(small: RealJob) -> None:
    """It is named; what was done before stays done. An operator that is installed anew makes no Job again."""
    made, certificate = uids(small), certificate_of(small)
    images = {"trainer": "localhost:1/none:1", "gguf": "localhost:1/none:1"}
    with installed_with(small, images=images, imagePatienceSeconds=20):
        job = small.another("pictureless", quantizations=["Q5_K_M"])
        failure = job.ended("Failed")["failure"]
        assert failure["class"] == "ImagePull"
        assert "localhost:1/none:1" in failure["message"]
    job.retried()
    status = job.ended()

    assert stage_of(status, "quantize-Q5_K_M")["state"] == "Done"
    assert small.status()["phase"] == "Complete"
    assert uids(small) == made
    assert certificate_of(small) == certificate


def certificate_of(job: RealJob) -> str:
    """What Helm made when the operator was installed first: pods that run trust it."""
    words = ["--namespace", NAMESPACE, "get", "secret", "tunesmith-tls", "--output=jsonpath={.data}"]
    found = kubectl(job.cluster, *words)
    assert "tls.key" in found
    return found


def test_pods_have_no_route_to_the_outside(small: RealJob) -> None:
    """In all of this folder (conftest.py): what jobs need comes from MinIO. One that asks for more is told so."""
    if small.cluster.origin is not Origin.BUILT:
        pytest.skip("of this cluster's network nothing is known")
    ended = run_pod(small.cluster, small.namespace, "gguf", "outwards", OUTWARDS)
    job = small.another("outside", model={"source": "hf://org/model"}, backoffLimit=0)
    failure = job.ended("Failed")["failure"]

    assert ended["message"].strip() == "ECONNREFUSED"
    assert (failure["class"], failure["stage"]) == ("SourceUnavailable", "prepare")
    assert "huggingface.co" in failure["message"]


def uids(job: RealJob) -> set[str]:
    """Of a job's Jobs: one that is made again under its name has another."""
    column = r"--output=jsonpath={range .items[*]}{.metadata.uid}{'\n'}{end}"
    return set(job.kubectl("get", "jobs", f"--selector=tunesmith.dev/job={job.name}", column).split())
