"""What a real Prometheus reads of the operator beside a real API server."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from support.applied import SPEC, Applied
from support.builders import a_spec
from support.control_plane import ControlPlane
from support.install_yaml import CHART
from support.kubelet import Kubelet
from support.operator_account import operator_account
from support.operator_process import SETTINGS, applied, operator
from support.prometheus import checked_metrics, prometheus
from support.servers import free_ports
from support.small_cluster import ROWS
from support.waiting import wait_until
from tunesmith_api.failures import FailureClass
from tunesmith_trainer.live_metrics import REPORTED, served
from tunesmith_trainer.report_progress import no_progress


@pytest.fixture
def port() -> int:
    """Where the operator serves its metrics."""
    [found] = free_ports(1)
    return found


def target(port: int) -> dict[str, Any]:
    """What Prometheus is told to scrape."""
    return {"job_name": "operator", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}


def exposed(port: int) -> str:
    """What the operator says of itself."""
    return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).raise_for_status().text


def test_prometheus_reads_a_job_from_create_to_its_end(
    plane: ControlPlane, namespace: str, tmp_path: Path, port: int
) -> None:
    """promtool finds nothing wrong, no series names the job, and every family has what has happened."""
    job = Applied(plane, Kubelet(plane, namespace), applied(plane, namespace, SPEC))
    settings = {**SETTINGS, "metricsPort": port}
    account = operator_account(plane, tmp_path, namespace)
    with operator(account, tmp_path, namespace, settings), prometheus([target(port)]) as server:

        def reads(expression: str, value: float) -> None:
            def looked() -> bool:
                return [float(found["value"][1]) for found in server.query(expression)] == [value]

            wait_until(looked, f"{expression} to be {value}", 60)

        reads('tunesmith_jobs{stage="prepare",condition="Pending"}', 1)
        reads('tunesmith_stages_waiting{stage="prepare",reason="Starting"}', 1)
        job.completed()
        reads('tunesmith_jobs{stage="",condition="Complete"}', 1)
        reads('tunesmith_job_completions_total{result="Complete",reason="Completed"}', 1)
        reads('sum(tunesmith_stage_duration_seconds_count{result="Done"})', len(job.jobs()))
        reads('tunesmith_api_requests_total{verb="POST",code="201"} >= bool 4', 1)
        reads("sum(tunesmith_watch_behind_seconds)", 0)
        reads("count(tunesmith_watch_last_event_timestamp_seconds)", 3)
        reads("time() - tunesmith_last_success_timestamp_seconds < bool 300", 1)
        reads("sum(tunesmith_reconciles_total{result='Failed'}) or vector(0)", 0)
        page = exposed(port)

    assert checked_metrics(page) == ""
    assert '"bot' not in page
    assert namespace not in page


def test_an_alert_fires_while_no_node_takes_a_pod(
    plane: ControlPlane, namespace: str, tmp_path: Path, port: int
) -> None:
    """In a Prometheus that reads the chart's rules, which wait for nothing here; then it clears."""
    rules = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    for alert in rules["groups"][0]["rules"]:
        alert.pop("for", None)
        alert["expr"] = alert["expr"].replace("> 1800", "> 0")
    job = Applied(plane, Kubelet(plane, namespace), applied(plane, namespace, SPEC))
    account = operator_account(plane, tmp_path, namespace)
    with (
        operator(account, tmp_path, namespace, {**SETTINGS, "metricsPort": port}),
        prometheus([target(port)], rules) as server,
    ):
        wait_until(lambda: bool(server.query("tunesmith_build_info")), "the operator to be scraped", 60)
        pod = job.kubelet.pod_of("bot", "prepare")
        job.kubelet.find_no_node(pod, "0/1 nodes are available")
        wait_until(lambda: server.firing() == {"TunesmithStageUnschedulable"}, "the alert to fire", 60)
        job.kubelet.begin(pod)
        wait_until(lambda: server.firing() == set(), "the alert to clear", 60)


def test_every_panel_of_the_dashboard_shows_something(
    plane: ControlPlane, namespace: str, tmp_path: Path, port: int
) -> None:
    """After a job that was drained, failed, was asked for again and came to its end, beside a training that reports."""
    [live] = free_ports(1)
    training = {"job_name": "training", "static_configs": [{"targets": [f"127.0.0.1:{live}"]}]}
    training["static_configs"][0]["labels"] = {"finetunejob": "bot"}
    board = json.loads((CHART / "files" / "dashboard.json").read_text())
    panels = {panel["title"]: panel["targets"] for panel in board["panels"] if panel["type"] != "row"}
    plane.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "stages"}})
    settings = {
        **SETTINGS,
        "metricsPort": port,
        "fileMetrics": True,
        # Only where pods could be heard is there a silence.
        "progress": {"url": "http://nobody/", "port": free_ports(1)[0]},
        "placement": [{"name": "*", "serviceAccountName": "stages"}],
    }
    spec = a_spec(datasets=ROWS, quantizations=["Q8_0"], training={"gpu": {"memory": "1Gi"}})
    job = Applied(plane, Kubelet(plane, namespace), applied(plane, namespace, spec))
    account = operator_account(plane, tmp_path, namespace)
    with (
        operator(account, tmp_path, namespace, settings),
        prometheus([target(port), training]) as server,
        served(no_progress, live) as progress,
    ):
        progress(0.5, dict.fromkeys(REPORTED, 1.0))
        wait_until(lambda: bool(server.query("tunesmith_build_info")), "the operator to be scraped", 60)
        left = {target["expr"]: title for title, targets in panels.items() for target in targets}

        def looked() -> bool:
            for expression in list(left):
                asked = expression.replace("$__rate_interval", "1m").replace("$finetunejob", "bot")
                if server.query(asked):
                    del left[expression]
            return not left

        job.done("prepare")
        train = job.kubelet.pod_of("bot", "train")
        job.kubelet.begin(train)
        wait_until(lambda: looked() or bool(server.query("tunesmith_stage_silent_seconds")), "a silence", 60)
        looked()
        job.kubelet.drain(train)
        wait_until(lambda: bool(server.query("tunesmith_disruptions_total")), "the drained pod to be counted", 60)
        job.kubelet.fail(next_pod(job, train), FailureClass.TRAINING_DIVERGED)
        job.is_in("Failed")
        wait_until(lambda: bool(server.query('tunesmith_jobs{condition="Failed"}')), "the failure to be counted", 60)
        looked()
        plane.patch(job.path, {"metadata": {"annotations": {"tunesmith.dev/retry": "1"}}})
        job.completed(spec)
        try:
            wait_until(looked, "every panel to have shown something", 60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {left}") from None


def next_pod(job: Applied, gone: dict[str, Any]) -> dict[str, Any]:
    """The pod that follows on one that was taken away."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [pod for pod in job.kubelet.pods("bot") if pod["metadata"]["uid"] != gone["metadata"]["uid"]]
        return bool(found)

    wait_until(there, "the next pod", 60)
    return found[0]
