"""One control plane for all tests of this folder; each test has a namespace of its own."""

import itertools
from collections.abc import Iterator

import pytest

from support.control_plane import ControlPlane, control_plane

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
