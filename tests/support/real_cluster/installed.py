"""The operator in the cluster, installed from the chart with images of this working tree."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml

from support.control_plane import ROOT
from support.real_cluster.asking import kubectl
from support.real_cluster.images import Builder
from support.real_cluster.layout import MINIO_IN_CLUSTER, Layout, layout
from support.real_cluster.lifecycle import TEST_LABEL
from support.server_binaries import helm_binary
from support.servers import ACCESS_KEY, SECRET_KEY, S3Server

NAMESPACE = "tunesmith-system"
BUCKET = "tunesmith"
SECRET = "store"


def values(images: dict[str, str], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The chart's values: the images, MinIO as the default store, and what of the operator's settings is changed."""
    repository, tag = images["operator"].rsplit(":", 1)
    store = {"uri": f"s3://{BUCKET}", "endpoint": MINIO_IN_CLUSTER, "secretRef": {"name": SECRET}}
    config = {"images": {name: images[name] for name in ("trainer", "gguf")}, "store": store}
    return {"image": {"repository": repository, "tag": tag}, "config": config | dict(changes)}


def install(here: Layout, **changes: Any) -> None:
    """Build what is not built, install or upgrade the chart, and wait until the operator is there.

    `changes` are settings of the operator.
    """
    restricted(here, NAMESPACE)
    images = {name: Builder(here.kept).image(name) for name in ("operator", "gguf", "trainer")}
    command = [helm_binary(), "upgrade", "tunesmith", ROOT / "charts" / "tunesmith", "--install", "--wait"]
    command += ["--namespace", NAMESPACE, "--values", "-", "--kubeconfig", here.kubeconfig]
    words = [str(word) for word in command]
    given = yaml.safe_dump(values(images, changes))
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        said = kubectl(here, "--namespace", NAMESPACE, "get", "pods,events")
        raise RuntimeError(f"the chart could not be installed: {done.stderr}\n{said}")


@contextmanager
def without_operator(here: Layout) -> Iterator[None]:
    """Within it no operator runs."""

    def scaled(replicas: int) -> None:
        there = ["--namespace", NAMESPACE]
        kubectl(here, *there, "scale", "deployment", "tunesmith", f"--replicas={replicas}")
        wanted = "--for=jsonpath={.status.availableReplicas}=1" if replicas else "--for=delete"
        about = "deployment/tunesmith" if replicas else "pod"
        selector = [] if replicas else ["--selector=app.kubernetes.io/name=tunesmith"]
        kubectl(here, *there, "wait", about, *selector, wanted, "--timeout=300s")

    try:
        scaled(0)
        yield
    finally:
        scaled(1)


def minio() -> S3Server:
    """The cluster's MinIO, as this machine reaches it, with the operator's default bucket."""
    server = S3Server("minio", layout().minio_here, bucket=BUCKET)
    client = server.client()
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)
    return server


def team(here: Layout, name: str) -> str:
    """A new namespace under Pod Security 'restricted', with the store's Secret."""
    restricted(here, name)
    keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    secret = {"metadata": {"name": SECRET, "namespace": name}, "stringData": keys}
    kubectl(here, "apply", "--filename=-", given=json.dumps({"apiVersion": "v1", "kind": "Secret", **secret}))
    return name


def restricted(here: Layout, name: str) -> None:
    """A namespace under Pod Security 'restricted'."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted", TEST_LABEL: ""}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    kubectl(here, "apply", "--filename=-", given=json.dumps(body))
