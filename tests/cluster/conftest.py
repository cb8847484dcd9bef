"""One control plane for all tests of this folder; each test has a namespace of its own."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster_user import User
from support.control_plane import ControlPlane, control_plane
from support.servers import S3Server, minio_server

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd, API server and controllers."""
    with control_plane(tmp_path_factory.mktemp("plane")) as running:
        yield running


@pytest.fixture
def namespace(plane: ControlPlane) -> str:
    """A new namespace, under Pod Security 'restricted'."""
    name = f"team-{next(_NUMBERS)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    plane.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    return name


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 service."""
    with minio_server(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture
def user(plane: ControlPlane, namespace: str, tmp_path: Path, minio: S3Server) -> User:
    """Somebody with a kubeconfig, a folder and credentials for the store."""
    return User(plane, namespace, tmp_path, minio)
