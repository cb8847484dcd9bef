"""`make demo-cluster`: the quickstart on SmolLM2, from a manifest with files of this machine to verified files here."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.control_plane import ROOT
from support.real_cluster.asking import kubectl
from support.real_cluster.demo import NAMESPACE
from support.real_cluster.installed import BUCKET, minio
from support.real_cluster.layout import Layout

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
