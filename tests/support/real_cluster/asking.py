"""What a cluster is asked: by kubectl, as a user does, and by a client where a process for each look would cost."""

import functools
import json
import subprocess
from typing import Any

from kubernetes import client, config
from support.control_plane import kubernetes_binary
from support.real_cluster.layout import Layout


def kubectl(layout: Layout, *words: str, given: str | None = None) -> str:
    """What ``kubectl`` says as the administrator; RuntimeError with its words if it fails."""
    command = [str(kubernetes_binary()), "kubectl", f"--kubeconfig={layout.kubeconfig}", *words]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def node(layout: Layout) -> str | None:
    """The name of the first node that takes any pod; None where there is none."""
    nodes = json.loads(kubectl(layout, "get", "nodes", "--output=json"))["items"]
    return next((str(each["metadata"]["name"]) for each in nodes if not each["spec"].get("taints")), None)


def job_of(layout: Layout, namespace: str, name: str) -> dict[str, Any]:
    """A FineTuneJob as it is."""
    api = _objects(layout)
    return dict(api.get_namespaced_custom_object("tunesmith.dev", "v1alpha1", namespace, "finetunejobs", name))


@functools.cache
def _objects(layout: Layout) -> client.CustomObjectsApi:
    return client.CustomObjectsApi(config.new_client_from_config(str(layout.kubeconfig)))
