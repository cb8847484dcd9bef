"""Up and down: a cluster that is given, one of kind, or one built here, with an image registry and MinIO beside it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from support.control_plane import ROOT
from support.real_cluster import built, kind, network
from support.real_cluster.asking import kubectl
from support.real_cluster.asking import node as first_node
from support.real_cluster.background import Background
from support.real_cluster.components import MINIO_ENVIRONMENT, minio, registry
from support.real_cluster.images import Builder
from support.real_cluster.layout import (
    DNS_PORT,
    DNS_SERVICE,
    MINIO_NAMESPACE,
    MINIO_PORT,
    MINIO_SERVICE,
    Layout,
    Origin,
    record,
)
from support.real_cluster.parts import Parts, answers, say
from support.server_binaries import run_to_end

GPU = "nvidia.com/gpu"
# What we have put into a cluster: so that it can be taken out of one that is not ours.
TEST_LABEL, _FALSE_GPU = "tunesmith.dev/test", "tunesmith.dev/false-gpu"
CHART_LABEL, _CRD = "app.kubernetes.io/name=tunesmith", "finetunejobs.tunesmith.dev"
_ONE_GPU = json.dumps({"status": {"capacity": {GPU: "1"}}})


def up(layout: Layout) -> None:
    """Start what does not run; nothing where all of it does. Raises AssertionError with the log of what ended."""
    subprocess.run([ROOT / "requirements" / "cluster.sh"], check=True)
    if layout.origin is Origin.GIVEN:
        _refuse_others(layout)
    record(layout)
    parts, began = Parts(Background(layout.state)), time.monotonic()
    if layout.origin is Origin.BUILT:
        network.put(layout)
    parts.start({"registry": registry(layout)})
    parts.start({"minio": minio(layout)}, MINIO_ENVIRONMENT)
    parts.wait(lambda: answers(f"http://{layout.registry}/v2/"), "the registry")
    if layout.origin is Origin.BUILT:
        Builder(layout.kept).pause()
        built.start(layout, parts)
    elif layout.origin is Origin.KIND:
        kind.create(layout.kubeconfig, layout.registry)
    _apply(layout)
    parts.wait(lambda: answers(f"{layout.minio_here}/minio/health/ready"), "MinIO")
    parts.wait(lambda: _nodes_are_ready(layout), "the node")
    _offer_a_gpu(layout, str(first_node(layout)))
    if parts.started:
        say(f"ready after {time.monotonic() - began:.0f} s: export KUBECONFIG={layout.kubeconfig}")


def _offer_a_gpu(layout: Layout, node: str) -> None:
    """For the scheduler alone; a node that has one keeps it."""
    capacity = json.loads(kubectl(layout, "get", "node", node, "--output=json"))["status"]["capacity"]
    if int(capacity.get(GPU, 0)) == 0:
        kubectl(layout, "label", "node", node, f"{_FALSE_GPU}=", "--overwrite")
        kubectl(layout, "patch", "node", node, "--subresource=status", "--type=merge", "--patch", _ONE_GPU)


def runs(layout: Layout) -> bool:
    """Whether anything that `up` has started still does: nothing does where the machine went off meanwhile."""
    run = Background(layout.state)
    return any(run.running(name) for name in run.names())


def down(layout: Layout) -> None:
    """End all that `up` has started, and what it has left; then the state goes. SystemExit where something stays."""
    run = Background(layout.state)
    try:
        if layout.origin is Origin.GIVEN and _ours(layout):
            _leave(layout)
    finally:
        _stop(layout, run)


def _stop(layout: Layout, run: Background) -> None:
    if layout.origin is Origin.BUILT:
        built.stop(layout, run)
    for name in run.names():
        run.stop(name)
    if layout.origin is Origin.KIND:
        kind.delete()
    left = built.left(layout, run) if layout.origin is Origin.BUILT else []
    run_to_end(["rm", "-rf", str(layout.state)])
    if left:
        sys.exit("cluster: left behind: " + "; ".join(left))
    say("ended")


def _ours(layout: Layout) -> bool:
    """Whether what is installed in it has been by us."""
    named = kubectl(layout, "get", "namespaces", f"--selector={TEST_LABEL}", "--output=name")
    return f"namespace/{MINIO_NAMESPACE}" in named.split()


def _refuse_others(layout: Layout) -> None:
    crd = kubectl(layout, "get", "customresourcedefinition", _CRD, "--ignore-not-found", "--output=name")
    if crd.strip() and not _ours(layout):
        sys.exit("cluster: somebody has installed Tunesmith in it, which the tests would replace: name another cluster")


def _leave(layout: Layout) -> None:
    """Take out of somebody's cluster what was put into it: namespaces, the chart's other objects, a false GPU."""
    chart = f"--selector={CHART_LABEL}"
    kubectl(layout, "delete", "namespaces", f"--selector={TEST_LABEL}", "--ignore-not-found")
    kubectl(layout, "delete", "clusterroles,clusterrolebindings,priorityclasses", chart, "--ignore-not-found")
    kubectl(layout, "delete", "customresourcedefinition", _CRD, "--ignore-not-found")
    patch = ["--subresource=status", "--type=merge", "--patch", json.dumps({"status": {"capacity": {GPU: None}}})]
    for name in kubectl(layout, "get", "nodes", f"--selector={_FALSE_GPU}", "--output=name").split():
        kubectl(layout, "patch", name, *patch)
        kubectl(layout, "label", name, f"{_FALSE_GPU}-")


@contextmanager
def without(layout: Layout, name: str) -> Iterator[None]:
    """Within it a part of the cluster does not run."""
    Background(layout.state).stop(name)
    try:
        yield
    finally:
        up(layout)


def _nodes_are_ready(layout: Layout) -> bool:
    """All of them; the taint of one that is not is taken away some moments after it is."""
    path = '{.items[*].status.conditions[?(@.type=="Ready")].status}'
    ready = set(kubectl(layout, "get", "nodes", f"--output=jsonpath={path}").split()) == {"True"}
    return ready and first_node(layout) is not None


def _apply(layout: Layout) -> None:
    """The Services of what runs on this machine: MinIO, and the DNS of a cluster that is built here."""
    port = {"name": "s3", "protocol": "TCP", "port": MINIO_PORT, "targetPort": MINIO_PORT}
    named = {"name": MINIO_NAMESPACE, "labels": {TEST_LABEL: ""}}
    items: list[dict[str, object]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": named}]
    items += _service(layout, MINIO_NAMESPACE, MINIO_SERVICE, [port])
    if layout.origin is Origin.BUILT:
        names = [{"name": "dns", "protocol": "UDP"}, {"name": "dns-tcp", "protocol": "TCP"}]
        ports: list[dict[str, object]] = [name | {"port": 53, "targetPort": DNS_PORT} for name in names]
        items += _service(layout, "kube-system", "kube-dns", ports, DNS_SERVICE)
    kubectl(layout, "apply", "--filename=-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def _service(
    layout: Layout, namespace: str, name: str, ports: list[dict[str, object]], cluster_ip: str | None = None
) -> list[dict[str, object]]:
    spec: dict[str, object] = {"ports": ports} | ({} if cluster_ip is None else {"clusterIP": cluster_ip})
    named = {"name": name, "namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": spec},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": named | {"labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [layout.address]}],
            "ports": [
                {"name": port["name"], "protocol": port["protocol"], "port": port["targetPort"]} for port in ports
            ],
        },
    ]
