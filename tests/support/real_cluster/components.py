"""Every process of the cluster: its command line. The order is that in which they are started."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from support.control_plane import kubernetes_binary
from support.real_cluster.layout import (
    DNS_PORT,
    DNS_SERVICE,
    ETCD,
    ETCD_PEER,
    MINIO_PORT,
    NODE,
    NODE_IP,
    SERVICES,
    Layout,
)
from support.server_binaries import cached_binary, go_install, minio_binary
from support.servers import ACCESS_KEY, SECRET_KEY

COREDNS_VERSION = "v1.15.0"
MINIO_ENVIRONMENT = {
    "MINIO_ROOT_USER": ACCESS_KEY,
    "MINIO_ROOT_PASSWORD": SECRET_KEY,
    "MINIO_BROWSER": "off",
    "MINIO_UPDATE": "off",
}


def coredns_binary() -> Path:
    """CoreDNS, built from its module when it is not in the cache (about 3 minutes)."""

    def build(work: Path) -> Path:
        go_install(f"github.com/coredns/coredns@{COREDNS_VERSION}", work, {"CGO_ENABLED": "0"})
        return work / "coredns"

    return cached_binary(f"coredns-{COREDNS_VERSION}", "building CoreDNS, about 3 minutes", build)


def api_server(layout: Layout) -> Mapping[str, list[str | Path]]:
    """What keeps all objects, and what everything else asks."""
    kubernetes, pki = kubernetes_binary(), layout.pki
    etcd = [kubernetes, "etcd", "--data-dir", layout.state / "etcd", "--unsafe-no-fsync", "--log-level=warn"]
    etcd += [f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}", f"--listen-peer-urls={ETCD_PEER}"]
    server = [kubernetes, "kube-apiserver", f"--etcd-servers={ETCD}", "--secure-port=6443"]
    server += [f"--bind-address={NODE_IP}", f"--advertise-address={NODE_IP}"]
    server += [f"--service-cluster-ip-range={SERVICES}.0/24", f"--client-ca-file={pki}/ca.crt"]
    server += [f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key"]
    server += ["--service-account-issuer=https://kubernetes.default.svc"]
    server += [f"--service-account-key-file={pki}/sa.pub", f"--service-account-signing-key-file={pki}/sa.key"]
    server += ["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"]
    server += ["--allow-privileged=true", f"--kubelet-client-certificate={pki}/admin.crt"]
    server += [f"--kubelet-client-key={pki}/admin.key", "--kubelet-preferred-address-types=InternalIP"]
    return {"etcd": etcd, "apiserver": server}


def controllers(layout: Layout) -> Mapping[str, list[str | Path]]:
    """What makes pods of Jobs and gives them a node. They end where the API server is not ready."""
    kubernetes, pki, kubeconfig = kubernetes_binary(), layout.pki, f"--kubeconfig={layout.kubeconfig}"
    manager = [kubernetes, "kube-controller-manager", kubeconfig, "--leader-elect=false"]
    manager += ["--use-service-account-credentials=true", "--bind-address=127.0.0.1", "--secure-port=0"]
    manager += [f"--service-account-private-key-file={pki}/sa.key", f"--root-ca-file={pki}/ca.crt"]
    manager += [f"--cluster-signing-cert-file={pki}/ca.crt", f"--cluster-signing-key-file={pki}/ca.key"]
    scheduler = [kubernetes, "kube-scheduler", kubeconfig, "--leader-elect=false", "--secure-port=0"]
    return {"controllers": manager, "scheduler": scheduler}


def node(layout: Layout) -> Mapping[str, list[str | Path]]:
    """What runs containers, and what brings them together."""
    state, kubernetes = layout.state, kubernetes_binary()
    (state / "containerd.toml").write_text(_containerd(layout))
    (state / "Corefile").write_text(
        f".:{DNS_PORT} {{\n  bind {NODE_IP}\n  kubernetes cluster.local {{\n"
        f"    kubeconfig {layout.kubeconfig}\n  }}\n  cache 5\n}}\n"
    )
    proxy = [kubernetes, "kube-proxy", f"--kubeconfig={layout.kubeconfig}", f"--hostname-override={NODE}"]
    proxy += ["--proxy-mode=iptables", "--conntrack-max-per-core=0", f"--bind-address={NODE_IP}"]
    proxy += [f"--metrics-bind-address={NODE_IP}", f"--healthz-bind-address={NODE_IP}"]
    return {
        "containerd": ["containerd", "-c", state / "containerd.toml"],
        "proxy": proxy,
        "coredns": [coredns_binary(), "-conf", state / "Corefile"],
    }


def registry(layout: Layout) -> list[str | Path]:
    """Where nodes pull images from. What is pushed stays in the cache: an image is built once."""
    settings = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(layout.kept / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": layout.registry.replace("localhost", "127.0.0.1")},
    }
    (layout.state / "registry.yml").write_text(yaml.safe_dump(settings))
    return ["docker-registry", "serve", layout.state / "registry.yml"]


def minio(layout: Layout) -> list[str | Path]:
    """The S3 service."""
    address = f"{layout.address}:{MINIO_PORT}"
    return [minio_binary(), "server", "--quiet", "--address", address, layout.state / "minio"]


def kubelet(layout: Layout) -> Mapping[str, list[str | Path]]:
    """What runs pods. It ends where containerd is not ready."""
    state = layout.state
    (state / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(layout)))
    command = [kubernetes_binary(), "kubelet", f"--config={state}/kubelet.yaml", f"--kubeconfig={layout.kubeconfig}"]
    command += [f"--hostname-override={NODE}", f"--node-ip={NODE_IP}", f"--root-dir={state}/kubelet"]
    command += [f"--cert-dir={state}/kubelet/pki"]
    return {"kubelet": command}


def _containerd(layout: Layout) -> str:
    """Version 2 is read by containerd 1 and 2; a registry on loopback is spoken to without TLS.

    `root` outlives the cluster, since the trainer image takes longer to be unpacked than all tests together.

    `restrict_oom_score_adj`: without it runc dies where root may not lower it ("can't get final child's PID").
    """
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{layout.kept}/containerd"
state = "{layout.state}/containerd-state"
[grpc]
  address = "{layout.containerd_socket}"
[{cri}]
  sandbox_image = "{layout.registry}/pause:1"
  restrict_oom_score_adj = true
  [{cri}.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [{cri}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{layout.state}/cni"
"""


def _kubelet(layout: Layout) -> dict[str, object]:
    little = {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"}
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{layout.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "resolvConf": "",
        "podLogsDir": f"{layout.state}/pod-logs",
        "evictionHard": little,
        "imageGCHighThresholdPercent": 100,
    }
