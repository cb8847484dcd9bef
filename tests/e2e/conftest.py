"""One cluster with the operator for all tests of this folder; the jobs share a namespace, so that they share work."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from support.control_plane import ROOT
from support.models import cut, smollm2
from support.real_cluster.installed import BUCKET, SECRET, install, minio, team
from support.real_cluster.jobs import GATES, RealJob
from support.real_cluster.layout import Layout, layout, recorded
from support.real_cluster.lifecycle import down, runs, up
from support.real_cluster.network import cut_off
from support.runs import ROWS, manifest

# Until when `make test` waits for the images, in seconds since 1970: it is bounded on slow machines too.
IMAGES_BY = "TUNESMITH_TEST_IMAGES_BY"
_TIMED_OUT = 124  # timeout(1)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Layout]:
    """A running cluster, where pods have no route to the outside; one that was not up before is taken down again."""
    if subprocess.run([ROOT / "requirements" / "cluster.sh"], check=False).returncode:
        pytest.skip("what a real cluster needs is not here: see what requirements/cluster.sh says")
    here, was_recorded = layout(), recorded() is not None
    was_up = was_recorded and runs(here)
    if was_recorded and not was_up:
        down(here)  # with the jobs of somebody's last tests, which would take up the node
    try:
        # Minutes, in which somebody wants to read what is being waited for.
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            up(here)
            have_images()
            install(here)
        with cut_off(here):
            yield here
    finally:
        if not was_up:
            down(here)


def have_images() -> None:
    """Build what is not built; a build that is cut short goes on from its layers the next time."""
    by = os.environ.get(IMAGES_BY)
    bound = [] if by is None else ["timeout", str(max(1, int(by) - int(time.time())))]
    command = [*bound, sys.executable, "-m", "support.real_cluster.images"]
    code = subprocess.run(command, cwd=ROOT / "tests", check=False).returncode
    if code == _TIMED_OUT:
        pytest.skip("the images were not built in the time that 'make test' has: 'make images' goes on with them")
    assert code == 0


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
