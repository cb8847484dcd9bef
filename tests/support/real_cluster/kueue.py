"""Kueue in the cluster: its manager is built from its module, and installed with the chart that lies in there."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from support.real_cluster.asking import kubectl
from support.real_cluster.images import Builder
from support.real_cluster.installed import restricted
from support.real_cluster.layout import Layout
from support.server_binaries import go, go_install, helm_binary
from support.waiting import wait_until

_MODULE, _VERSION = "sigs.k8s.io/kueue", "v0.17.0"
_NAMESPACE = "kueue-system"
_NAME = "only"
_SECONDS = 600.0
_BOUND = f"--timeout={_SECONDS:.0f}s"
# All that a stage may ask for, and more of it than any node has: what is let in is a matter of the queue alone.
_COVERED = ("cpu", "memory", "ephemeral-storage")
# As in the chart, but that nothing but Jobs is managed, by one manager, without metrics.
_CONFIG = {
    "apiVersion": "config.kueue.x-k8s.io/v1beta2",
    "kind": "Configuration",
    "health": {"healthProbeBindAddress": ":8081"},
    "webhook": {"port": 9443},
    "leaderElection": {"leaderElect": False},
    "integrations": {"frameworks": ["batch/job"]},
}


@dataclass(frozen=True, slots=True)
class Queue:
    """A LocalQueue of a namespace before a ClusterQueue of its own."""

    cluster: Layout
    namespace: str

    @property
    def labels(self) -> dict[str, str]:
        """What puts a Job into it."""
        return {"kueue.x-k8s.io/queue-name": _NAME}

    def stop(self, policy: str) -> None:
        """Hold: nothing more is let in. HoldAndDrain: what is in is put out too. None: all are let in."""
        patch = json.dumps({"spec": {"stopPolicy": policy}})
        kubectl(self.cluster, "patch", f"clusterqueue/{_NAME}", "--type=merge", "--patch", patch)


@contextmanager
def kueue(here: Layout, namespace: str) -> Iterator[Queue]:
    """Within it Kueue runs, and the namespace has a queue that lets nothing in yet."""
    restricted(here, _NAMESPACE)
    chart, queue = _chart(here), _queue(namespace)
    try:
        kubectl(here, "apply", "--server-side", "--filename=-", given=chart)
        kubectl(here, "--namespace", _NAMESPACE, "wait", "deployment", "--all", "--for=condition=Available", _BOUND)
        # Its webhooks are asked, and know their certificate some moments later.
        wait_until(lambda: _applied(here, queue), "Kueue to take a queue", _SECONDS, every=0.5)
        yield Queue(here, namespace)
    finally:
        # First the queue, which its manager lets go; and the chart whatever becomes of that: with its webhooks and
        # nobody behind them the cluster would take no Job any more.
        try:
            kubectl(here, "delete", "--ignore-not-found", "--filename=-", _BOUND, given=queue)
        finally:
            kubectl(here, "delete", "--ignore-not-found", "--filename=-", _BOUND, given=chart)


def _applied(here: Layout, objects: str) -> bool:
    try:
        kubectl(here, "apply", "--filename=-", given=objects)
    except RuntimeError:
        return False
    return True


def _chart(here: Layout) -> str:
    """What Helm renders, but for its part of the aggregated API, which a cluster that is made here has not."""
    image = Builder(here.kept).program(f"kueue:{_VERSION}", "/manager", _build)
    repository, tag = image.rsplit(":", 1)
    module = json.loads(go(["mod", "download", "-json", f"{_MODULE}@{_VERSION}"], {}))["Dir"]
    manager = {"image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"}}
    values = {
        "controllerManager": {"manager": manager},
        "managerConfig": {"controllerManagerConfigYaml": yaml.safe_dump(_CONFIG)},
    }
    command = [helm_binary(), "template", "kueue", Path(module) / "charts" / "kueue", "--namespace", _NAMESPACE]
    words = [*map(str, command), "--values", "-"]
    done = subprocess.run(words, input=yaml.safe_dump(values), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Kueue's chart cannot be rendered: {done.stderr}")
    objects = [each for each in yaml.safe_load_all(done.stdout) if each and each["kind"] != "APIService"]
    return yaml.safe_dump_all(objects)


def _build(work: Path) -> None:
    go_install(f"{_MODULE}/cmd/kueue@{_VERSION}", work, {"CGO_ENABLED": "0"})
    (work / "kueue").rename(work / "manager")


def _queue(namespace: str) -> str:
    plenty = [{"name": name, "nominalQuota": "1Ti"} for name in _COVERED]
    group = {"coveredResources": list(_COVERED), "flavors": [{"name": _NAME, "resources": plenty}]}
    whole = {"namespaceSelector": {}, "resourceGroups": [group], "stopPolicy": "Hold"}
    return yaml.safe_dump_all(
        [
            _object("ResourceFlavor", {}),
            _object("ClusterQueue", whole),
            _object("LocalQueue", {"clusterQueue": _NAME}, namespace),
        ]
    )


def _object(kind: str, spec: dict[str, object], namespace: str | None = None) -> dict[str, object]:
    named = {"name": _NAME} | ({} if namespace is None else {"namespace": namespace})
    return {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": kind, "metadata": named, "spec": spec}
