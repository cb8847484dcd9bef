"""One cluster with the operator for all tests of this folder; the jobs share a namespace, so that they share work."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from support.models import cut, smollm2
from support.real_cluster.installed import BUCKET, SECRET, install, minio, team
from support.real_cluster.jobs import GATES, RealJob
from support.real_cluster.layout import Layout, layout
from support.real_cluster.lifecycle import up
from support.real_cluster.network import cut_off
from support.runs import ROWS, manifest


@pytest.fixture(scope="session")
def cluster() -> Iterator[Layout]:
    """A running cluster, where pods have no route to the outside; `make cluster-down` ends it."""
    here = layout()
    up(here)
    install(here)
    with cut_off(here):
        yield here


@pytest.fixture(scope="session")
def namespace(cluster: Layout) -> str:
    """A new namespace, under Pod Security 'restricted'."""
    return team(cluster, f"team-{uuid.uuid4().hex[:8]}")


@pytest.fixture(scope="session")
def sources(cluster: Layout, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Model and datasets of a job, in MinIO: the first two layers of SmolLM2."""
    del cluster  # MinIO is a part of it
    client = minio().client()
    base = cut(smollm2(), 2, tmp_path_factory.mktemp("model") / "base")
    for path in base.iterdir():
        client.fput_object(BUCKET, f"sources/two-layers/{path.name}", str(path))
    client.fput_object(BUCKET, "sources/reports.jsonl", str(ROWS))
    secret = {"secretRef": {"name": SECRET}}
    return {
        "model": {"source": f"s3://{BUCKET}/sources/two-layers", **secret},
        "datasets": [{"source": f"s3://{BUCKET}/sources/reports.jsonl", **secret}],
    }


@pytest.fixture(scope="session")
def small(cluster: Layout, namespace: str, sources: dict[str, Any]) -> RealJob:
    """A job of a few steps that has come to its end; two layers say nothing that would pass a gate."""
    job = RealJob(cluster, namespace, manifest(**sources, gates=GATES)).apply()
    job.ended()
    return job
