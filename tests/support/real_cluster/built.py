"""A cluster of one node from nothing: Kubernetes out of its modules, containerd, and a bridge for the pods."""

import json
import ssl
import subprocess
from pathlib import Path

import httpx

from support.control_plane import kubernetes_binary
from support.real_cluster import certificates, network
from support.real_cluster.background import Background
from support.real_cluster.components import api_server, controllers, kubelet, node
from support.real_cluster.layout import API_SERVER, BRIDGE, Layout
from support.real_cluster.parts import Parts


def start(layout: Layout, parts: Parts) -> None:
    """Start what does not run, in order. The registry runs, and has the image of a pod's own process."""
    certificates.make(layout)
    parts.start(api_server(layout))
    parts.wait(lambda: _api_server_is_ready(layout), "the API server")
    parts.start({**controllers(layout), **node(layout)})
    parts.wait(lambda: _containerd_is_ready(parts), "containerd")
    parts.start(kubelet(layout))


def stop(layout: Layout, run: Background) -> None:
    """End pods, then processes, then what they left of mounts, namespaces, rules and interfaces."""
    for name in ("controllers", "scheduler", "kubelet", "proxy", "coredns", "minio", "registry"):
        run.stop(name)
    if run.running("containerd"):
        _end_containers(layout)
    for name in run.names():
        run.stop(name)
    for folder in (layout.state, layout.kept):
        _unmount(folder)
    _remove_namespaces()
    _remove_records(layout)
    _quietly(str(kubernetes_binary()), "kube-proxy", "--cleanup")
    network.remove(layout)


def left(layout: Layout, run: Background) -> list[str]:
    """What is still there after `stop`: processes, mounts, an interface, rules, in words for a person."""
    still = [f"the process {name}" for name in run.names() if run.running(name)]
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    still += [f"the mount {each}" for each in mounted for folder in (layout.state, layout.kept) if _below(each, folder)]
    still += [f"the interface {BRIDGE}"] if Path(f"/sys/class/net/{BRIDGE}").exists() else []
    return still + [f"the rule {rule}" for rule in network.rules()]


def _below(place: str, folder: Path) -> bool:
    return place.startswith(f"{folder}/")


def _api_server_is_ready(layout: Layout) -> bool:
    context = ssl.create_default_context(cafile=layout.pki / "ca.crt")
    context.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
    try:
        return httpx.get(f"{API_SERVER}/readyz", verify=context, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _containerd_is_ready(parts: Parts) -> bool:
    """It answers some moments before its part for the kubelet does, which refuses it until then and ends.

    That part says this last before it takes requests (containerd 1.6, pkg/cri/server/service.go).
    """
    return "Start streaming server" in parts.run.said("containerd")


def _end_containers(layout: Layout) -> None:
    ctr = ["ctr", "--address", str(layout.containerd_socket), "--namespace", "k8s.io"]
    for kind in ("task", "container"):
        listed = subprocess.run([*ctr, kind, "ls", "--quiet"], capture_output=True, text=True, check=False).stdout
        for name in listed.split():
            _quietly(*ctr, kind, "rm", *(["--force"] if kind == "task" else []), name)


def _unmount(folder: Path) -> None:
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((each for each in mounted if _below(each, folder)), reverse=True):
        _quietly("umount", "--lazy", place)


def _remove_namespaces() -> None:
    """The network namespaces of pods, which the bridge plugin names; their ends of the bridge go with them."""
    known = subprocess.run(["ip", "-json", "link", "show", "master", BRIDGE], capture_output=True, check=False).stdout
    for link in json.loads(known or b"[]"):
        _quietly("ip", "link", "del", link["ifname"])
    for path in Path("/run/netns").glob("cni-*"):
        _quietly("ip", "netns", "del", path.name)


def _remove_records(layout: Layout) -> None:
    """What kubelet and network plugins leave in places that are not ours to name: empty groups, links, results."""
    groups = Path("/sys/fs/cgroup")
    # As far as they are empty, the innermost first.
    for place in (*groups.glob("kubepods"), *groups.glob("*/kubepods")):
        _quietly("find", str(place), "-depth", "-type", "d", "-exec", "rmdir", "{}", ";")
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and _below(str(link.readlink()), layout.state):
            link.unlink()
    results = Path("/var/lib/cni/results")
    for path in results.glob(f"{network.NAME}-*"):
        sandbox = path.name.removeprefix(f"{network.NAME}-").partition("-")[0]
        (results / f"cni-loopback-{sandbox}-lo").unlink(missing_ok=True)
        path.unlink()


def _quietly(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=False)
