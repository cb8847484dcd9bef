"""Where the cluster's parts are: folders, addresses, ports."""

from dataclasses import dataclass
from pathlib import Path

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
REGISTRY = "localhost:5055"
MINIO_PORT = 9000
MINIO_SERVICE = "minio"
MINIO_NAMESPACE = "minio"
# As a pod names it, and as this machine reaches it.
MINIO_IN_CLUSTER = f"http://{MINIO_SERVICE}.{MINIO_NAMESPACE}.svc.cluster.local:{MINIO_PORT}"
MINIO_HERE = f"http://{NODE_IP}:{MINIO_PORT}"


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of a cluster: `state` is removed when it goes, `kept` (images, built once) stays."""

    state: Path
    kept: Path

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        return self.state / "containerd.sock"


def layout() -> Layout:
    """The folders of this user's cluster: there is one at a time."""
    return Layout(cache_dir() / "cluster", cache_dir() / "images")
