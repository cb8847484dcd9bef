"""A job from create to Complete, by a real API server and Job controller; pods end as the test says."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.builders import a_spec
from support.control_plane import ControlPlane
from support.kubelet import Kubelet
from support.small_cluster import ROWS
from support.waiting import wait_until
from tunesmith_api.spec import API_VERSION, KIND, JobSpec

# Kubernetes has to be built first, in seven minutes.
pytestmark = pytest.mark.slow

SECONDS = 120.0
SETTINGS = {"store": {"uri": "s3://bucket"}}


@contextmanager
def operator(plane: ControlPlane, work: Path, namespace: str) -> "Iterator[subprocess.Popen[bytes]]":
    """The operator as a process of its own, watching one namespace."""
    (work / "operator.yaml").write_text(yaml.safe_dump(SETTINGS))
    command = [sys.executable, "-m", "tunesmith_operator", "--config", str(work / "operator.yaml")]
    with (work / "operator.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--namespace", namespace],
            env=os.environ | {"KUBECONFIG": str(plane.kubeconfig)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)


def applied(plane: ControlPlane, namespace: str, spec: JobSpec, name: str = "bot") -> str:
    """A job in the namespace; its path."""
    path = f"/apis/tunesmith.dev/v1alpha1/namespaces/{namespace}/finetunejobs"
    body: dict[str, Any] = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}}
    plane.create(path, body | {"spec": spec.model_dump(mode="json", by_alias=True, exclude_unset=True)})
    return f"{path}/{name}"


def phase_of(plane: ControlPlane, path: str) -> str:
    return str((plane.get(path).get("status") or {}).get("phase", ""))


def test_a_job_runs_to_its_end(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """Under Pod Security 'restricted', each stage once, and a status that says so."""
    spec = a_spec(datasets=ROWS, quantizations=["Q8_0"])
    kubelet = Kubelet(plane, namespace)
    path = applied(plane, namespace, spec)
    with operator(plane, tmp_path, namespace):

        def complete() -> bool:
            kubelet.carry_on("bot", spec)
            return phase_of(plane, path) == "Complete"

        wait_until(complete, "the job to be complete", SECONDS)

    found = plane.get(path)
    assert {stage["state"] for stage in found["status"]["stages"]} == {"Done"}
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    made = plane.get(f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"]
    assert len(made) == len(found["status"]["stages"])
