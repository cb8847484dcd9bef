"""Where the cluster's parts are: folders, addresses, ports."""

import json
import os
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from support.real_cluster.kind import docker_runs
from support.real_cluster.kind import gateway as kind_gateway
from tunesmith.cache import cache_dir

BRIDGE = "ftj0"
PODS = "10.244.0"
SERVICES = "10.96.0"
# The bridge's address is the node's. Nobody else has it, so that the usual ports are free there.
NODE_IP = f"{PODS}.1"
NODE = "node"
API_SERVER = f"https://{NODE_IP}:6443"
KUBERNETES_SERVICE = f"{SERVICES}.1"
DNS_SERVICE = f"{SERVICES}.10"
DNS_PORT = 10053
# On loopback, where others may listen too: not the ports that etcd and a registry usually have.
ETCD, ETCD_PEER = "http://127.0.0.1:12379", "http://127.0.0.1:12380"
REGISTRY_PORT = 5055
MINIO_PORT = 9000
MINIO_SERVICE = "minio"
MINIO_NAMESPACE = "tunesmith-minio"
# As a pod names it.
MINIO_IN_CLUSTER = f"http://{MINIO_SERVICE}.{MINIO_NAMESPACE}.svc.cluster.local:{MINIO_PORT}"

# A cluster that is there for tests, and the address at which its nodes and pods reach this machine.
GIVEN_KUBECONFIG, GIVEN_ADDRESS = "TUNESMITH_TEST_KUBECONFIG", "TUNESMITH_TEST_ADDRESS"
_RECORD = "cluster.json"


class Origin(StrEnum):
    """Where a cluster comes from."""

    GIVEN = "given"
    KIND = "kind"
    BUILT = "built"


@dataclass(frozen=True, slots=True)
class Layout:
    """A cluster's folders and addresses.

    `state` is removed when it goes, `kept` (images, built and pulled once) stays. `address` is this machine's, as nodes
    and pods reach it, where MinIO listens. `registry` is the registry's name, here and there.
    """

    origin: Origin
    state: Path
    kept: Path
    kubeconfig: Path
    address: str
    registry: str

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def containerd_socket(self) -> Path:
        return self.state / "containerd.sock"

    @property
    def minio_here(self) -> str:
        """MinIO as this machine reaches it, and pods too."""
        return f"http://{self.address}:{MINIO_PORT}"


@cache
def layout() -> Layout:
    """The cluster that is up, else the one that the variables name, else kind's where Docker runs, else one built here.

    There is one at a time for a user. SystemExit where a variable is missing.
    """
    return recorded() or _chosen()


def record(layout: Layout) -> None:
    """What is up, so that it is taken down as what it is, whatever has been installed or set since."""
    layout.state.mkdir(parents=True, exist_ok=True)
    fields = {name: str(value) for name, value in asdict(layout).items()}
    (layout.state / _RECORD).write_text(json.dumps(fields))


def recorded() -> Layout | None:
    """The cluster that is up."""
    path = _state() / _RECORD
    if not path.exists():
        return None
    known = json.loads(path.read_text())
    folders = {name: Path(known[name]) for name in ("state", "kept", "kubeconfig")}
    return Layout(**{**known, **folders, "origin": Origin(known["origin"])})


def _state() -> Path:
    return cache_dir() / "cluster"


def _chosen() -> Layout:
    state, kept = _state(), cache_dir() / "images"
    given = os.environ.get(GIVEN_KUBECONFIG)
    if given:
        address = os.environ.get(GIVEN_ADDRESS)
        if not address:
            sys.exit(
                f"{GIVEN_KUBECONFIG} is set: set {GIVEN_ADDRESS} to the address at which its nodes reach this machine"
            )
        return Layout(Origin.GIVEN, state, kept, Path(given).absolute(), address, f"{address}:{REGISTRY_PORT}")
    kubeconfig = state / "kubeconfig"
    if docker_runs():
        address = kind_gateway()
        return Layout(Origin.KIND, state, kept, kubeconfig, address, f"{address}:{REGISTRY_PORT}")
    return Layout(Origin.BUILT, state, kept, kubeconfig, NODE_IP, f"localhost:{REGISTRY_PORT}")
