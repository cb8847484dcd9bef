"""One cluster with the operator installed for all tests of this folder; each test has a namespace of its own."""

import uuid

import pytest

from support.real_cluster.installed import install, team
from support.real_cluster.layout import Layout, layout
from support.real_cluster.lifecycle import up


@pytest.fixture(scope="session")
def cluster() -> Layout:
    """A running cluster; it stays up for the next run of the tests (`make cluster-down` ends it)."""
    here = layout()
    up(here)
    install(here)
    return here


@pytest.fixture
def namespace(cluster: Layout) -> str:
    """A new namespace, under Pod Security 'restricted'."""
    return team(cluster, f"team-{uuid.uuid4().hex[:8]}")
