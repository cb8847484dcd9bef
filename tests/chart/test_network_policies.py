"""Whom the operator and the stages reach, and who reaches them, by the policies that the chart renders."""

import json
from typing import Any

import pytest
import yaml

from support.install_yaml import NAMESPACE, templated
from support.network_policies import Flow, Pod, allowed
from tunesmith_api.names import JOB_LABEL, STAGE_LABEL
from tunesmith_api.stages import Stage

TEAM = "team-a"
NAMESPACES = {name: {"kubernetes.io/metadata.name": name} for name in (NAMESPACE, TEAM, "monitoring", "minio")}
OPERATOR = Pod(
    NAMESPACE,
    {"app.kubernetes.io/name": "tunesmith", "app.kubernetes.io/instance": "tunesmith"},
    {"metrics": 8080, "progress": 8443},
)
PROMETHEUS, STRANGER = Pod("monitoring", {"app": "prometheus"}), Pod(TEAM, {"app": "other"})
STORE = Pod("minio", {"app": "minio"})
METADATA, OUTSIDE, API_SERVER, SERVICE = "169.254.169.254", "1.2.3.4", "10.0.0.1", "10.1.2.3"


def a_stage(stage: Stage) -> Pod:
    ports = {"metrics": 8080} if stage is Stage.TRAIN else {}
    return Pod(TEAM, {JOB_LABEL: "bot", STAGE_LABEL: stage.value}, ports)


@pytest.fixture(scope="module")
def policies() -> list[dict[str, Any]]:
    """With a store inside the cluster."""
    store = {"uri": "s3://models", "endpoint": "http://minio.minio.svc:9000"}
    values = ["networkPolicies.enabled=true", f"jobNamespaces={json.dumps([{'name': TEAM}])}"]
    return rendered(*values, f"config.store={json.dumps(store)}")


def rendered(*values: str) -> list[dict[str, Any]]:
    words = [word for value in values for word in ("--set-json", value)]
    return [each for each in yaml.safe_load_all(templated(*words)) if each and each["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize("stage", [*Stage])
def test_every_stage_reaches_store_operator_and_names_and_no_api_server(
    policies: list[dict[str, Any]], stage: Stage
) -> None:
    """Nor the cloud's metadata service."""
    pod = a_stage(stage)
    reached = [
        Flow(pod, SERVICE, 9000, target=STORE),
        Flow(pod, SERVICE, 8443, target=OPERATOR),
        Flow(pod, SERVICE, 53, "UDP"),
    ]
    refused = [
        Flow(pod, API_SERVER, 6443),
        Flow(pod, METADATA, 80),
        Flow(pod, SERVICE, 5432, target=STORE),
        Flow(pod, SERVICE, 8080, target=OPERATOR),
    ]

    assert [flow for flow in reached if not allowed(flow, policies, NAMESPACES)] == []
    assert [flow for flow in refused if allowed(flow, policies, NAMESPACES)] == []


@pytest.mark.parametrize("stage", [*Stage])
def test_prepare_and_the_push_alone_reach_outside(policies: list[dict[str, Any]], stage: Stage) -> None:
    """Where models and datasets are."""
    out = allowed(Flow(a_stage(stage), OUTSIDE, 443), policies, NAMESPACES)

    assert out is (stage in (Stage.PREPARE, Stage.PUBLISH))


def test_the_operator_reaches_the_api_server_and_is_reached_for_what_it_serves(policies: list[dict[str, Any]]) -> None:
    """By stages for progress, by Prometheus for metrics."""
    stage = a_stage(Stage.TRAIN)
    let = [
        Flow(OPERATOR, API_SERVER, 6443),
        Flow(OPERATOR, SERVICE, 53, "UDP"),
        Flow(PROMETHEUS, SERVICE, 8080, target=OPERATOR),
        Flow(PROMETHEUS, SERVICE, 8080, target=stage),
    ]
    refused = [
        Flow(OPERATOR, SERVICE, 9000, target=STORE),
        Flow(STRANGER, SERVICE, 8443, target=OPERATOR),
        Flow(STRANGER, SERVICE, 22, target=stage),
    ]

    assert [flow for flow in let if not allowed(flow, policies, NAMESPACES)] == []
    assert [flow for flow in refused if allowed(flow, policies, NAMESPACES)] == []
    assert allowed(Flow(STRANGER, OUTSIDE, 25), policies, NAMESPACES)


@pytest.mark.parametrize(
    ("endpoint", "port"), [("https://s3.example.org", 443), ("http://minio", 80), ("https://minio:9443", 9443)]
)
def test_the_store_s_port_is_that_of_its_endpoint(endpoint: str, port: int) -> None:
    """By its scheme where it names none; a port of its own can be given."""
    values = ["networkPolicies.enabled=true", f"jobNamespaces={json.dumps([{'name': TEAM}])}"]
    store = json.dumps({"uri": "s3://models", "endpoint": endpoint})
    train = a_stage(Stage.TRAIN)

    by_endpoint = rendered(*values, f"config.store={store}")
    assert allowed(Flow(train, OUTSIDE, port), by_endpoint, NAMESPACES)
    assert not allowed(Flow(train, OUTSIDE, port + 1), by_endpoint, NAMESPACES)
    assert not allowed(Flow(train, METADATA, port), by_endpoint, NAMESPACES)
    named = rendered(*values, f"config.store={store}", "networkPolicies.store.ports=[7480]")
    assert allowed(Flow(train, OUTSIDE, 7480), named, NAMESPACES)


def test_what_goes_through_a_proxy_reaches_it_alone() -> None:
    """By its port, wherever it is."""
    network = json.dumps({"httpsProxy": "http://proxy.example.org:3128"})
    values = ["networkPolicies.enabled=true", f"jobNamespaces={json.dumps([{'name': TEAM}])}"]
    found = rendered(*values, f"config.network={network}", 'notifications.url="https://sink/"')

    for pod in (a_stage(Stage.PREPARE), a_stage(Stage.QUANTIZE), OPERATOR):
        assert allowed(Flow(pod, OUTSIDE, 3128), found, NAMESPACES)
        assert not allowed(Flow(pod, OUTSIDE, 3129), found, NAMESPACES)


def test_there_are_none_unless_they_are_asked_for() -> None:
    """An incorrect policy would drop traffic."""
    assert rendered(f"jobNamespaces={json.dumps([{'name': TEAM}])}") == []
