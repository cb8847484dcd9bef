"""`make demo-cluster`: the quickstart on SmolLM2, from a manifest with files of this machine to verified files here."""

import hashlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from support.control_plane import ROOT
from support.models import smollm2
from support.real_cluster.asking import job_of, kubectl
from support.real_cluster.demo import NAMESPACE
from support.real_cluster.installed import BUCKET, minio, team
from support.real_cluster.layout import Layout
from support.runs import ROWS

pytestmark = pytest.mark.slow


def test_the_demo_ends_with_files_that_passed(cluster: Layout, tmp_path: Path) -> None:
    """Submitted with its files, trained anew, watched, fetched; what came is what the report says was measured."""
    kubectl(cluster, "delete", "namespace", NAMESPACE, "--ignore-not-found")
    client = minio().client()
    for made in client.list_objects(BUCKET, prefix=f"{NAMESPACE}/", recursive=True):
        client.remove_object(BUCKET, str(made.object_name))
    command = [sys.executable, "-m", "support.real_cluster.demo", str(tmp_path / "out")]
    shown = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": "tests"}, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    files = {file["name"]: file["sha256"] for file in report["files"]}
    assert len(files) == 2
    assert files == {name: hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() for name in files}
    assert {file["verdict"] for file in report["files"]} == {"Passed"}


def test_the_quickstart_for_a_cluster_is_one_kubectl_apply(cluster: Layout) -> None:
    """As the operating guide has it: files in the store's service, `kubectl apply`, `kubectl wait`."""
    client, name = minio().client(), team(cluster, f"team-{uuid.uuid4().hex[:8]}")
    if not client.bucket_exists("models"):
        client.make_bucket("models")
    for path in smollm2().iterdir():
        client.fput_object("models", f"inputs/SmolLM2-135M-Instruct/{path.name}", str(path))
    client.fput_object("models", "inputs/street-reports.jsonl", str(ROWS))

    there = ["--namespace", name]
    kubectl(cluster, *there, "apply", "--filename", str(ROOT / "examples" / "quickstart-s3.yaml"))
    kubectl(cluster, *there, "wait", "--for=condition=Finished", "ftj/street-reports", "--timeout=25m")
    status = job_of(cluster, name, "street-reports")["status"]

    assert (status["phase"], status["summary"]) == ("Complete", "2/2"), status
