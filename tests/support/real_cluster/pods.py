"""A pod of its own that runs a few lines of Python in one of the images."""

import json
from typing import Any

from support.real_cluster.asking import kubectl
from support.real_cluster.images import reference
from support.real_cluster.layout import Layout
from support.waiting import wait_until

# An image is pulled in some minutes.
_SECONDS = 1200.0


def run_pod(layout: Layout, namespace: str, image: str, name: str, script: str) -> dict[str, Any]:
    """How a container ended that ran a script: as a user whom nobody knows, of group 0, with a read-only root.

    So does OpenShift run pods.
    """
    user = {"runAsUser": 1000640000, "runAsGroup": 0, "runAsNonRoot": True}
    own = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "it", "image": reference(image), "command": ["python", "-c", script], "securityContext": own}
    container |= {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}  # noqa: S108  # the pod's
    spec = {"containers": [container], "restartPolicy": "Never", "volumes": [{"name": "tmp", "emptyDir": {}}]}
    spec |= {"securityContext": user | {"seccompProfile": {"type": "RuntimeDefault"}}}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    kubectl(layout, "--namespace", namespace, "create", "--filename=-", given=json.dumps(body))
    ended: dict[str, Any] = {}

    def over() -> bool:
        found = json.loads(kubectl(layout, "--namespace", namespace, "get", "pod", name, "--output=json"))
        for status in found["status"].get("containerStatuses", []):
            ended.update(status["state"].get("terminated") or {})
        return bool(ended)

    wait_until(over, f"the pod {name} to end", _SECONDS, every=0.5)
    return ended
