"""A pod of its own that runs a few lines of Python in one of the images."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.real_cluster.asking import kubectl
from support.real_cluster.images import reference
from support.real_cluster.layout import Layout
from support.waiting import wait_until

# An image is pulled in some minutes.
_SECONDS = 1200.0


def run_pod(layout: Layout, namespace: str, image: str, name: str, script: str) -> dict[str, Any]:
    """How a container ended that ran a script."""
    _create(layout, namespace, _pod(image, name, script))
    ended: dict[str, Any] = {}

    def over() -> bool:
        for status in _status(layout, namespace, name).get("containerStatuses", []):
            ended.update(status["state"].get("terminated") or {})
        return bool(ended)

    wait_until(over, f"the pod {name} to end", _SECONDS, every=0.5)
    return ended


@contextmanager
def occupied(layout: Layout, namespace: str, resource: str) -> Iterator[None]:
    """Within it a pod holds one of a resource of the node."""
    name = "holder"
    body = _pod("gguf", name, "import signal; signal.pause()")
    body["spec"]["containers"][0]["resources"] = {"limits": {resource: "1"}}
    _create(layout, namespace, body)
    try:
        wait_until(
            lambda: _status(layout, namespace, name).get("phase") == "Running", f"{resource} to be held", _SECONDS
        )
        yield
    finally:
        kubectl(layout, "--namespace", namespace, "delete", "pod", name, "--grace-period=1")


def _pod(image: str, name: str, script: str) -> dict[str, Any]:
    """As a user whom nobody knows, of group 0, with a read-only root: so does OpenShift run pods."""
    user = {"runAsUser": 1000640000, "runAsGroup": 0, "runAsNonRoot": True}
    own = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "it", "image": reference(image), "command": ["python", "-c", script], "securityContext": own}
    container |= {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}  # noqa: S108  # the pod's
    spec = {"containers": [container], "restartPolicy": "Never", "volumes": [{"name": "tmp", "emptyDir": {}}]}
    spec |= {"securityContext": user | {"seccompProfile": {"type": "RuntimeDefault"}}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def _create(layout: Layout, namespace: str, body: dict[str, Any]) -> None:
    kubectl(layout, "--namespace", namespace, "create", "--filename=-", given=json.dumps(body))


def _status(layout: Layout, namespace: str, name: str) -> dict[str, Any]:
    return dict(json.loads(kubectl(layout, "--namespace", namespace, "get", "pod", name, "--output=json"))["status"])
