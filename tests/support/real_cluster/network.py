"""The pods' network: a bridge with the node's address, and one rule for what leaves it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from support.real_cluster.layout import BRIDGE, NODE_IP, PODS, Layout, Origin
from support.server_binaries import run_to_end

NAME = "tunesmith-test"
_RANGE = f"{PODS}.0/24"
# The plugin's own masquerading leaves a chain for each pod that was not taken down in order: this is one rule.
_MASQUERADE = ["POSTROUTING", "-s", _RANGE, "!", "-d", _RANGE, "-j", "MASQUERADE"]
# Forwarding, and the bridge's frames past the rules of the Services (a pod that calls a Service of another).
_SWITCHES = ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables")

# Of pods to whatever is not a pod: what goes to a Service has a pod's address by then, or this node's.
_OUTWARDS = ["FORWARD", "-s", _RANGE, "!", "-d", _RANGE, "-j", "REJECT"]

# What the kubelet leaves behind, and kube-proxy's cleanup with it (pkg/kubelet/kubelet_network_linux.go).
_KUBELETS = ("KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT", "KUBE-FIREWALL")


def put(layout: Layout) -> None:
    """Make the bridge and what containerd reads; again: nothing."""
    if not Path(f"/sys/class/net/{BRIDGE}").exists():
        run_to_end(["ip", "link", "add", BRIDGE, "type", "bridge"])
        run_to_end(["ip", "addr", "add", f"{NODE_IP}/24", "dev", BRIDGE])
        run_to_end(["ip", "link", "set", BRIDGE, "up"])
    _switch_on(layout.state / "switches")
    if not _holds("nat", _MASQUERADE):
        run_to_end(["iptables", "-w", "-t", "nat", "--append", *_MASQUERADE])
    folder = layout.state / "cni"
    folder.mkdir(exist_ok=True)
    (folder / "10-bridge.conflist").write_text(json.dumps(_plugins(layout)))


def remove(layout: Layout) -> None:
    """Take away the bridge, its rule, and put the system's switches back."""
    _forget("nat", _MASQUERADE)
    _forget("filter", _OUTWARDS)
    if Path(f"/sys/class/net/{BRIDGE}").exists():
        run_to_end(["ip", "link", "del", BRIDGE])
    _remove_the_kubelets_chains()
    kept = layout.state / "switches"
    for line in kept.read_text().splitlines() if kept.exists() else ():
        name, value = line.split()
        (Path("/proc/sys") / name).write_text(value)


def rules() -> list[str]:
    """The rules and chains of a cluster that are there: Kubernetes' own, and those of its pods' addresses."""
    saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in saved if "KUBE-" in line or PODS in line]


@contextmanager
def cut_off(layout: Layout) -> Iterator[None]:
    """Within it no pod has a route to the outside; of another cluster's network nothing is known."""
    if layout.origin is not Origin.BUILT:
        yield
        return
    _forget("filter", _OUTWARDS)
    run_to_end(["iptables", "-w", "--insert", *_OUTWARDS])
    try:
        yield
    finally:
        _forget("filter", _OUTWARDS)


def _remove_the_kubelets_chains() -> None:
    for command, table, chain in product(("iptables", "ip6tables"), ("nat", "mangle", "filter"), _KUBELETS):
        for words in (["-D", "INPUT", "-j", chain], ["-D", "OUTPUT", "-j", chain], ["-F", chain], ["-X", chain]):
            subprocess.run([command, "-w", "-t", table, *words], capture_output=True, check=False)


def _switch_on(kept: Path) -> None:
    """What was set before is written down first."""
    there = [name for name in _SWITCHES if (Path("/proc/sys") / name).exists()]
    if not kept.exists():
        kept.write_text("".join(f"{name} {(Path('/proc/sys') / name).read_text().strip()}\n" for name in there))
    for name in there:
        (Path("/proc/sys") / name).write_text("1")


def _holds(table: str, rule: list[str]) -> bool:
    command = ["iptables", "-w", "-t", table, "--check", *rule]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _forget(table: str, rule: list[str]) -> None:
    """However often it is there: whoever put it may have been killed."""
    while _holds(table, rule):
        run_to_end(["iptables", "-w", "-t", table, "--delete", *rule])


def _plugins(layout: Layout) -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "dataDir": str(layout.state / "cni-data"),
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": _RANGE, "rangeStart": f"{PODS}.10"}]],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "hairpinMode": True, "ipam": addresses}
    return {"cniVersion": "1.0.0", "name": NAME, "plugins": [bridge]}
