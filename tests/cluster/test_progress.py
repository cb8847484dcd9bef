"""What a pod says of its progress reaches the status: real tokens of a real API server, by HTTPS."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.builders import a_spec
from support.control_plane import ControlPlane
from support.kubelet import Kubelet
from support.operator_process import SETTINGS, applied, operator
from support.servers import free_ports, self_signed
from support.small_cluster import ROWS
from support.waiting import wait_until
from tunesmith_api.spec import JobSpec
from tunesmith_operator.names import AUDIENCE, REQUEST_ANNOTATION
from tunesmith_operator.pod import TOKEN_FILE, TOKEN_FOLDER

SECONDS = 120.0
ACCOUNT = "stages"
METRICS = {"loss": "1.25", "current_step": "6", "total_steps": "20", "checkpoint_step": "4"}


@dataclass(frozen=True)
class Training:
    """A job whose training runs, and the operator that listens."""

    plane: ControlPlane
    namespace: str
    path: str
    pod: dict[str, Any]
    url: str
    authority: str

    def status(self) -> dict[str, Any]:
        return dict(self.plane.get(self.path).get("status") or {})

    def token(self, pod: dict[str, Any], audience: str) -> str:
        """What the kubelet would put into the pod."""
        meta = pod["metadata"]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{ACCOUNT}/token"
        made = self.plane.create(path, {"spec": {"audiences": [audience], "boundObjectRef": bound}})
        return str(made["status"]["token"])

    def post(self, token: str, percent: int, metrics: dict[str, str]) -> int:
        """The status code of a report."""
        told = [{"name": name, "value": value} for name, value in metrics.items()]
        body = {"trainerStatus": {"progressPercentage": percent, "estimatedRemainingSeconds": 90, "metrics": told}}
        context = ssl.create_default_context(cadata=self.authority)
        with httpx.Client(verify=context, trust_env=False) as client:
            headers = {"Authorization": f"Bearer {token}"}
            return client.post(self.url, json=body, headers=headers).status_code


@pytest.fixture
def training(plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Training]:
    """prepare is done and train runs."""
    plane.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": ACCOUNT}})
    self_signed(tmp_path)
    for ours, theirs in (("tls.crt", "public.crt"), ("ca.crt", "public.crt"), ("tls.key", "private.key")):
        (tmp_path / ours).write_bytes((tmp_path / theirs).read_bytes())
    [port] = free_ports(1)
    url = f"https://127.0.0.1:{port}/"
    settings = {
        **SETTINGS,
        "placement": [{"name": "*", "serviceAccountName": ACCOUNT}],
        "progress": {"url": url, "port": port, "certificates": str(tmp_path)},
    }
    spec: JobSpec = a_spec(datasets=ROWS, quantizations=["Q8_0"])
    kubelet = Kubelet(plane, namespace)
    path = applied(plane, namespace, spec)
    with operator(plane.kubeconfig, tmp_path, namespace, settings):
        kubelet.end_well(kubelet.pod_of("bot", "prepare"), spec)
        pod = kubelet.pod_of("bot", "train")
        kubelet.begin(pod)
        yield Training(plane, namespace, path, pod, url, (tmp_path / "ca.crt").read_text())


def test_a_report_reaches_the_status(training: Training) -> None:
    """Step, loss, time left and the newest checkpoint; the request has told the pod all that it needs."""
    request = httpx.Response(200, text=training.pod["metadata"]["annotations"][REQUEST_ANNOTATION]).json()
    told = request["progress"]
    assert told == {
        "url": training.url,
        "caCertificate": training.authority,
        "tokenFile": f"{TOKEN_FOLDER}/{TOKEN_FILE}",
    }
    token = training.token(training.pod, AUDIENCE)
    wait_until(lambda: training.post(token, 30, METRICS) == 200, "the report to be taken", SECONDS)

    wait_until(lambda: (training.status().get("progress") or {}).get("step") == 6, "the progress", SECONDS)
    status = training.status()
    stages = len(status["stages"])
    assert status["progress"] | {"time": ""} == {
        "stage": "train",
        "percent": 130 // stages,
        "step": 6,
        "steps": 20,
        "loss": 1.25,
        "secondsLeft": 90.0,
        "time": "",
    }
    train = next(stage for stage in status["stages"] if stage["name"] == "train")
    assert status["checkpoint"] == {"key": train["keys"]["outputs"]["adapter"], "step": 4}


def test_only_the_pod_itself_is_believed(training: Training) -> None:
    """Not a token for the API server, one of another pod, one that was changed, nor none."""
    right = training.token(training.pod, AUDIENCE)
    wait_until(lambda: training.post(right, 30, METRICS) == 200, "the operator to listen", SECONDS)
    other = training.plane.create(
        f"/api/v1/namespaces/{training.namespace}/pods",
        {"metadata": {"name": "other"}, "spec": training.pod["spec"] | {"nodeName": ""}},
    )
    head, claims, signature = right.split(".")

    assert training.post(training.token(training.pod, "https://kubernetes.test"), 30, METRICS) == 401
    assert training.post(training.token(other, AUDIENCE), 30, METRICS) == 401
    assert training.post(f"{head}.{claims}.{signature[::-1]}", 30, METRICS) == 401
    assert training.post("none", 30, METRICS) == 401


def test_reports_cost_one_write_in_ten_seconds(training: Training) -> None:
    """However many come; what came meanwhile is written when the time is over."""
    token = training.token(training.pod, AUDIENCE)
    wait_until(lambda: training.post(token, 0, METRICS) == 200, "the report to be taken", SECONDS)
    wait_until(lambda: "progress" in training.status(), "the first progress", SECONDS)
    first = training.status()["progress"]
    before = training.plane.statuses_written(training.namespace)
    for percent in range(1, 50):
        assert training.post(token, percent, METRICS | {"current_step": str(percent)}) == 200

    wait_until(lambda: training.status()["progress"]["step"] == 49, "the last report in the status", SECONDS)
    assert training.plane.statuses_written(training.namespace) == before + 1
    second = training.status()["progress"]
    assert (time_of(second) - time_of(first)).total_seconds() >= 10


def time_of(progress: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(progress["time"])
