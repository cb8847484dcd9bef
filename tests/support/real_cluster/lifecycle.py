"""Up and down: every part started in order and waited for, and all of it taken away again."""

import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import httpx

from support.control_plane import ROOT, kubernetes_binary
from support.real_cluster import certificates, network
from support.real_cluster.background import Background
from support.real_cluster.components import MINIO_ENVIRONMENT, api_server, controllers, kubelet, node
from support.real_cluster.images import Builder
from support.real_cluster.layout import (
    API_SERVER,
    BRIDGE,
    DNS_PORT,
    DNS_SERVICE,
    MINIO_HERE,
    MINIO_NAMESPACE,
    MINIO_PORT,
    MINIO_SERVICE,
    NODE,
    NODE_IP,
    REGISTRY,
    Layout,
)
from support.server_binaries import run_to_end
from support.waiting import wait_until

# Each part is ready in some seconds on two idle cores.
_SECONDS = 300.0
GPU = "nvidia.com/gpu"


def say(sentence: str) -> None:
    """What is being done, for whoever waits."""
    print(f"cluster: {sentence}", file=sys.stderr, flush=True)


def up(layout: Layout) -> None:
    """Start what does not run; nothing where all of it does. Raises AssertionError with the log of what ended."""
    subprocess.run([ROOT / "requirements" / "cluster.sh"], check=True)
    layout.state.mkdir(parents=True, exist_ok=True)
    run = Background(layout.state)
    began = time.monotonic()
    network.put(layout)
    certificates.make(layout)
    started = _start(run, api_server(layout))
    if started:
        say("waiting for the API server")
    _wait(run, started, lambda: _answers(f"{API_SERVER}/readyz", layout), "the API server")
    started = _start(run, {**controllers(layout), **node(layout)})
    _wait(run, started, lambda: _containerd_answers(layout), "containerd")
    started += _start(run, kubelet(layout))
    _wait(run, started, lambda: _answers(f"http://{REGISTRY}/v2/"), "the registry")
    Builder(layout.kept).pause()
    kubectl(
        layout, "apply", "--filename=-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": _objects()})
    )
    if started:
        say("waiting for the node")
    _wait(run, started, lambda: _answers(f"{MINIO_HERE}/minio/health/ready"), "MinIO")
    _wait(run, started, lambda: _node_is_ready(layout), "the node")
    kubectl(layout, "patch", "node", NODE, "--subresource=status", "--type=merge", "--patch", _ONE_GPU)
    if started:
        say(f"ready after {time.monotonic() - began:.0f} s")


def down(layout: Layout) -> None:
    """End pods, then processes, then what they left of mounts, namespaces, rules and interfaces; then the state."""
    if not layout.state.exists():
        return
    run = Background(layout.state)
    for name in ("controllers", "scheduler", "kubelet", "proxy", "coredns", "minio", "registry"):
        run.stop(name)
    if run.running("containerd"):
        _end_containers(layout)
    for name in run.names():
        run.stop(name)
    for folder in (layout.state, layout.kept):
        _unmount(folder)
    _remove_namespaces()
    _quietly(str(kubernetes_binary()), "kube-proxy", "--cleanup")
    network.remove(layout)
    run_to_end(["rm", "-rf", str(layout.state)])


def kubectl(layout: Layout, *words: str, given: str | None = None) -> str:
    """What ``kubectl`` says as the administrator; RuntimeError with its words if it fails."""
    command = [str(kubernetes_binary()), "kubectl", f"--kubeconfig={layout.kubeconfig}", *words]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


_ONE_GPU = json.dumps({"status": {"capacity": {GPU: "1"}}})


def _start(run: Background, commands: Mapping[str, list[str | Path]]) -> list[str]:
    absent = [name for name in commands if run.running(name) is None]
    for name in absent:
        run.start(name, commands[name], MINIO_ENVIRONMENT if name == "minio" else None)
    return absent


def _wait(run: Background, started: Collection[str], ready: Callable[[], bool], what: str) -> None:
    def looked() -> bool:
        for name in started:
            if run.running(name) is None:
                raise AssertionError(f"{name} has ended:\n{run.tail(name)}")
        return ready()

    wait_until(looked, f"{what} to be ready", _SECONDS)


def administrator(layout: Layout) -> httpx.Client:
    """A client of the API server with all rights: where kubectl, a process for each look, would take a core."""
    context = ssl.create_default_context(cafile=layout.pki / "ca.crt")
    context.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
    return httpx.Client(base_url=API_SERVER, verify=context, trust_env=False)


def _answers(url: str, layout: Layout | None = None) -> bool:
    try:
        with httpx.Client(trust_env=False) if layout is None else administrator(layout) as client:
            return client.get(url).is_success
    except httpx.TransportError:
        return False


def _containerd_answers(layout: Layout) -> bool:
    asked = ["ctr", "--address", str(layout.containerd_socket), "--connect-timeout", "2s", "version"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _node_is_ready(layout: Layout) -> bool:
    path = '{.items[*].status.conditions[?(@.type=="Ready")].status}'
    return kubectl(layout, "get", "nodes", f"--output=jsonpath={path}").strip() == "True"


def _objects() -> list[dict[str, object]]:
    """The Services of what runs on the node itself: DNS behind its usual address, and MinIO."""
    dns = [{"name": "dns", "protocol": "UDP"}, {"name": "dns-tcp", "protocol": "TCP"}]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MINIO_NAMESPACE}},
        *_service(
            "kube-system", "kube-dns", [port | {"port": 53, "targetPort": DNS_PORT} for port in dns], DNS_SERVICE
        ),
        *_service(
            MINIO_NAMESPACE,
            MINIO_SERVICE,
            [{"name": "s3", "protocol": "TCP", "port": MINIO_PORT, "targetPort": MINIO_PORT}],
        ),
    ]


def _service(
    namespace: str, name: str, ports: list[dict[str, object]], address: str | None = None
) -> list[dict[str, object]]:
    spec: dict[str, object] = {"ports": ports} | ({} if address is None else {"clusterIP": address})
    named = {"name": name, "namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": spec},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": named | {"labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [NODE_IP]}],
            "ports": [
                {"name": port["name"], "protocol": port["protocol"], "port": port["targetPort"]} for port in ports
            ],
        },
    ]


def _end_containers(layout: Layout) -> None:
    ctr = ["ctr", "--address", str(layout.containerd_socket), "--namespace", "k8s.io"]
    for kind in ("task", "container"):
        listed = subprocess.run([*ctr, kind, "ls", "--quiet"], capture_output=True, text=True, check=False).stdout
        for name in listed.split():
            _quietly(*ctr, kind, "rm", *(["--force"] if kind == "task" else []), name)


def _unmount(folder: Path) -> None:
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((each for each in mounted if each.startswith(f"{folder}/")), reverse=True):
        _quietly("umount", "--lazy", place)


def _remove_namespaces() -> None:
    """The network namespaces of pods, which the bridge plugin names; their ends of the bridge go with them."""
    known = subprocess.run(["ip", "-json", "link", "show", "master", BRIDGE], capture_output=True, check=False).stdout
    for link in json.loads(known or b"[]"):
        _quietly("ip", "link", "del", link["ifname"])
    for path in Path("/run/netns").glob("cni-*"):
        _quietly("ip", "netns", "del", path.name)


def _quietly(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=False)
