"""``make demo-cluster``: a cluster, the operator, one job, its progress, and the files at the end."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from support.control_plane import ROOT
from support.real_cluster.installed import BUCKET, SECRET, install, minio, team
from support.real_cluster.layout import Layout, layout
from support.real_cluster.lifecycle import up
from support.real_cluster.parts import say
from support.servers import ACCESS_KEY, SECRET_KEY

NAMESPACE, JOB = "demo", "street-reports"
_JOB_FILE = ROOT / "examples" / "quickstart.yaml"


def main() -> None:
    """Everything, and where to go from there; the folder for the files is the only argument."""
    here, out = layout(), Path(sys.argv[1])
    up(here)
    say("installing the operator (its images are built the first time: half an hour and more)")
    install(here)
    minio()
    team(here, NAMESPACE)
    with tempfile.TemporaryDirectory() as secrets:
        _credentials(Path(secrets) / SECRET)
        surroundings = os.environ | {"KUBECONFIG": str(here.kubeconfig), "TUNESMITH_SECRETS": secrets}
        store = ["--store", f"s3://{BUCKET}", "--store-endpoint", here.minio_here]
        there = ["--namespace", NAMESPACE]
        _tunesmith(surroundings, "submit", str(_JOB_FILE), "--upload", *store, "--store-secret", SECRET, *there)
        _tunesmith(surroundings, "status", JOB, "--watch", *there)
        _tunesmith(surroundings, "fetch", JOB, "--output", str(out), "--store-endpoint", here.minio_here, *there)
    _tunesmith(os.environ.copy(), "show", str(out))
    print(_closing(here, out))


def _credentials(folder: Path) -> None:
    folder.mkdir()
    for name, value in (("accessKey", ACCESS_KEY), ("secretKey", SECRET_KEY)):
        (folder / name).write_text(value)


def _tunesmith(surroundings: dict[str, str], command: str, *words: str) -> None:
    called = ["tunesmith", command, *words]
    print("$ " + " ".join(called), flush=True)
    done = subprocess.run([Path(sys.executable).parent / called[0], *called[1:]], env=surroundings, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def _closing(here: Layout, out: Path) -> str:
    return f"""
The files are in {out.absolute()}; talk to the model with: {Path(sys.executable).parent}/tunesmith chat {out}
The cluster goes on: export KUBECONFIG={here.kubeconfig}; 'make cluster-down' ends it.
Jobs of your own: docs/operating.md, "After make demo-cluster"."""


if __name__ == "__main__":
    main()
