"""A cluster of kind, where Docker runs: its nodes are containers of this machine."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from support.real_cluster.parts import say
from support.server_binaries import cached_binary, go_install

_VERSION = "v0.33.0"
_NAME = "tunesmith-test"
_NETWORK = "kind"
# The nodes' image, where Docker does not reach the one that this release of kind names.
_IMAGE = "TUNESMITH_TEST_KIND_IMAGE"
# Registries are looked up in this folder (kind, local registry), which kind's own configuration does not name.
_HOSTS = "/etc/containerd/certs.d"
_CONFIG = f"""kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
containerdConfigPatches:
- |-
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{_HOSTS}"
"""


def docker_runs() -> bool:
    """Whether Docker answers."""
    asked = ["docker", "info", "--format", "{{.ID}}"]
    here = shutil.which("docker") is not None
    return here and subprocess.run(asked, capture_output=True, check=False).returncode == 0


def kind_binary() -> Path:
    """kind, built from its module when it is not in the cache."""

    def build(work: Path) -> Path:
        go_install(f"sigs.k8s.io/kind@{_VERSION}", work, {"CGO_ENABLED": "0"})
        return work / "kind"

    return cached_binary(f"kind-{_VERSION}", "building kind", build)


def gateway() -> str:
    """This machine's address in the network of the nodes, which is made where it is not there yet."""
    if subprocess.run(["docker", "network", "inspect", _NETWORK], capture_output=True, check=False).returncode:
        _run("docker", "network", "create", _NETWORK)
    [network] = json.loads(_run("docker", "network", "inspect", _NETWORK))
    gateways = [each["Gateway"] for each in network["IPAM"]["Config"] if "." in each.get("Gateway", "")]
    return str(gateways[0])


def create(kubeconfig: Path, registry: str) -> None:
    """A cluster whose nodes speak to `registry` without TLS; again: nothing."""
    if _NAME in _run(str(kind_binary()), "get", "clusters").split():
        _run(str(kind_binary()), "export", "kubeconfig", "--name", _NAME, "--kubeconfig", str(kubeconfig))
    else:
        named = ["--name", _NAME, "--kubeconfig", str(kubeconfig)]
        image = ["--image", os.environ[_IMAGE]] if os.environ.get(_IMAGE) else []
        say("making a cluster of kind, some minutes")
        _run(str(kind_binary()), "create", "cluster", *named, *image, "--config", "-", "--wait", "300s", given=_CONFIG)
    folder = f"{_HOSTS}/{registry}"
    for node in _run(str(kind_binary()), "get", "nodes", "--name", _NAME).split():
        write = f"mkdir -p {folder} && cat > {folder}/hosts.toml"
        _run("docker", "exec", "--interactive", node, "sh", "-c", write, given=f'[host."http://{registry}"]\n')


def delete() -> None:
    """Take it away."""
    _run(str(kind_binary()), "delete", "cluster", "--name", _NAME)


def _run(*command: str, given: str | None = None) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
