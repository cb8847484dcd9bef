"""The operator as a process of its own, and the objects it is for, in a control plane of the tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from support.control_plane import ControlPlane
from support.servers import free_ports
from tunesmith_api.spec import API_VERSION, KIND, JobSpec

SETTINGS: Mapping[str, Any] = {"store": {"uri": "s3://bucket"}}
_LOOKING = "from tunesmith_operator import __main__, filling; filling._EVERY = {}; __main__.main()"
_SECONDS = 60.0


@contextmanager
def operator(
    kubeconfig: Path,
    work: Path,
    namespace: str | None,
    settings: Mapping[str, Any] = SETTINGS,
    look_every: float | None = None,
) -> "Iterator[subprocess.Popen[bytes]]":
    """The operator, watching one namespace or all; what it says is added to operator.log in `work`.

    `look_every` is after how many seconds it looks through all that there is, where ten minutes are too long to wait.
    """
    [port] = free_ports(1)
    (work / "operator.yaml").write_text(yaml.safe_dump({"metricsPort": port, **settings}))
    program = ["-m", "tunesmith_operator"] if look_every is None else ["-c", _LOOKING.format(look_every)]
    within = [] if namespace is None else ["--namespace", namespace]
    with (work / "operator.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *program, "--config", str(work / "operator.yaml"), *within],
            env=os.environ | {"KUBECONFIG": str(kubeconfig)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_SECONDS)


def applied(plane: ControlPlane, namespace: str, spec: JobSpec, name: str = "bot") -> str:
    """A job in the namespace; its path."""
    path = f"/apis/tunesmith.dev/v1alpha1/namespaces/{namespace}/finetunejobs"
    body: dict[str, Any] = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}}
    plane.create(path, body | {"spec": spec.model_dump(mode="json", by_alias=True, exclude_unset=True)})
    return f"{path}/{name}"


def phase_of(plane: ControlPlane, path: str) -> str:
    """A job's phase, empty while it has none."""
    return str((plane.get(path).get("status") or {}).get("phase", ""))
