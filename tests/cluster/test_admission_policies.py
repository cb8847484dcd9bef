"""What an installer allows of jobs, said by a real API server when one is applied."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from support.builders import MODEL
from support.control_plane import ControlPlane
from support.install_yaml import templated
from support.small_cluster import ROWS
from support.waiting import wait_until
from tunesmith_api.names import CONTAINER, JOB_LABEL

ALLOWED = {
    "enabled": True,
    "stores": ["s3://models", "s3://shared/team"],
    "endpoints": ["https://s3.example"],
    "maxGpus": 1,
    "maxGpuMemory": "24Gi",
    "requiredLabels": ["team"],
    "images": ["ghcr.io/tunesmith/"],
}
LABELS = {"team": "a"}


@contextmanager
def policies(plane: ControlPlane, namespace: str, **allowed: Any) -> Iterator[None]:
    """Within it they hold in one namespace, which the tests beside this one are not in."""
    text = templated(
        "--set-json", f"admissionPolicies={json.dumps(ALLOWED | allowed)}", "--show-only",
        "templates/admissionpolicies.yaml", release=namespace,
    )  # fmt: skip
    made = []
    for body in yaml.safe_load_all(text):
        if body["kind"] == "ValidatingAdmissionPolicyBinding":
            within = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
            body["spec"]["matchResources"] = {"namespaceSelector": within}
        kind = {"ValidatingAdmissionPolicy": "policies", "ValidatingAdmissionPolicyBinding": "policybindings"}
        path = f"/apis/{body['apiVersion']}/validatingadmission{kind[body['kind']]}"
        plane.create(path, body)
        made.append(f"{path}/{body['metadata']['name']}")
    try:
        wait_until(lambda: hold(plane, namespace), "the policies to hold", 60)
        yield
    finally:
        for path in reversed(made):
            plane.delete(path)


def hold(plane: ControlPlane, namespace: str) -> bool:
    """Whether what they are against is refused, which it is some moments after they are made."""
    return bool(refused(plane, namespace, labels={}) and refused_pod(plane, namespace, "docker.io/other:1"))


def refused(plane: ControlPlane, namespace: str, labels: dict[str, str] | None = None, **spec: Any) -> str:
    """The API server's words against a job; empty if it would take it (dry run)."""
    body = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "bot", "labels": LABELS if labels is None else labels},
        "spec": {"model": MODEL, "datasets": ROWS} | spec,
    }
    path = f"/apis/tunesmith.dev/v1alpha1/namespaces/{namespace}/finetunejobs"
    answer = plane.client.post(path, json=body, params={"dryRun": "All"})
    return "" if answer.is_success else str(answer.json()["message"])


def refused_pod(plane: ControlPlane, namespace: str, image: str, container: str = CONTAINER) -> str:
    """The same of a stage's pod."""
    secure = {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    body = {
        "metadata": {"name": "pod", "labels": {JOB_LABEL: "bot"}},
        "spec": {"containers": [{"name": container, "image": image, "securityContext": secure}]},
    }
    answer = plane.client.post(f"/api/v1/namespaces/{namespace}/pods", json=body, params={"dryRun": "All"})
    return "" if answer.is_success else str(answer.json()["message"])


GPU = {"resources": {"limits": {"nvidia.com/gpu": 2}}}


def test_what_is_allowed_is_taken_and_all_else_refused_with_a_reason(plane: ControlPlane, namespace: str) -> None:
    """Stores, GPUs, labels, images."""
    with policies(plane, namespace):
        assert refused(plane, namespace) == ""
        assert refused(plane, namespace, store={"uri": "s3://models/a"}, training={"gpu": {"memory": "24Gi"}}) == ""
        assert refused(plane, namespace, store={"uri": "s3://shared/team", "endpoint": "https://s3.example"}) == ""
        reasons = {
            "spec.store.uri has to be": {"store": {"uri": "s3://shared/teams"}},
            "spec.store.endpoint has to be": {"store": {"uri": "s3://models", "endpoint": "https://evil.example"}},
            "metadata.labels has to have team": {"labels": {}},
            "spec.training.gpu.memory is at most 24Gi": {"training": {"gpu": {"memory": "40Gi"}}},
            "spec.stages may ask for at most 1 of nvidia.com/gpu": {"stages": [{"name": "train", **GPU}]},
        }
        for reason, job in reasons.items():
            assert reason in refused(plane, namespace, **job)
        assert refused_pod(plane, namespace, "ghcr.io/tunesmith/trainer:1") == ""
        assert "have to begin with one of ghcr.io/tunesmith/" in refused_pod(plane, namespace, "docker.io/x:1")
        # A mesh's sidecar is the cluster's own.
        assert refused_pod(plane, namespace, "docker.io/proxy:1", container="proxy") == ""


def test_no_gpu_means_none(plane: ControlPlane, namespace: str) -> None:
    """However it is asked for."""
    with policies(plane, namespace, maxGpus=0):
        assert "spec.training.gpu is not allowed" in refused(plane, namespace, training={"gpu": {"memory": "1Gi"}})
        assert refused(plane, namespace) == ""


def test_what_is_there_is_left_alone_until_it_changes(plane: ControlPlane, namespace: str) -> None:
    """Else a retry of an old job, which is an annotation, would be refused for a rule that is newer."""
    path = f"/apis/tunesmith.dev/v1alpha1/namespaces/{namespace}/finetunejobs"
    body = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "old"}}
    plane.create(path, body | {"spec": {"model": MODEL, "datasets": ROWS}})
    with policies(plane, namespace):
        plane.patch(f"{path}/old", {"metadata": {"annotations": {"tunesmith.dev/retry": "1"}}})
        with pytest.raises(AssertionError, match="has to have team"):
            plane.patch(f"{path}/old", {"spec": {"suspend": True}})
