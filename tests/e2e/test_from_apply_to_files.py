"""``kubectl apply`` of a job in a real cluster ends with measured files in MinIO."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.models import cut, smollm2
from support.real_cluster.installed import BUCKET, minio
from support.real_cluster.layout import Layout
from support.real_cluster.lifecycle import kubectl
from support.runs import ROWS, manifest
from tunesmith.store.published import KEY_DIGITS

pytestmark = pytest.mark.slow

_SECONDS = "1800s"


def uploaded(folder: Path) -> dict[str, Any]:
    """A small job whose model and rows lie in MinIO."""
    client = minio().client()
    base = cut(smollm2(), 2, folder / "base")
    for path in base.iterdir():
        client.fput_object(BUCKET, f"sources/two-layers/{path.name}", str(path))
    client.fput_object(BUCKET, "sources/reports.jsonl", str(ROWS))
    sources = f"s3://{BUCKET}/sources"
    store = {"secretRef": {"name": "store"}}
    return manifest(
        model={"source": f"{sources}/two-layers", **store},
        datasets=[{"source": f"{sources}/reports.jsonl", **store}],
        gates={"minAnswersClean": 0, "onFailure": "Publish"},
    )


def test_a_job_ends_with_measured_files(cluster: Layout, namespace: str, tmp_path: Path) -> None:
    """The published file is the one that was measured."""
    kubectl(cluster, "--namespace", namespace, "apply", "--filename=-", given=yaml.safe_dump(uploaded(tmp_path)))
    kubectl(cluster, "--namespace", namespace, "wait", "--for=condition=Finished", f"--timeout={_SECONDS}", "ftj/small")

    status = json.loads(kubectl(cluster, "--namespace", namespace, "get", "ftj/small", "--output=json"))["status"]
    assert status["phase"] == "Complete", status
    published = f"{namespace}/published/small"
    latest = json.loads(read(f"{published}/latest.json"))
    folder = f"{published}/{latest['key'][:KEY_DIGITS]}"
    digests = {
        entry["path"]: hashlib.sha256(read(f"{folder}/{entry['path']}")).hexdigest() for entry in latest["files"]
    }
    assert digests == {entry["path"]: entry["sha256"] for entry in latest["files"]}
    [file] = json.loads(read(f"{folder}/report.json"))["files"]
    assert digests[file["name"]] == file["sha256"]


def read(name: str) -> bytes:
    """An object of the store's bucket."""
    return bytes(minio().client().get_object(BUCKET, name).data)
