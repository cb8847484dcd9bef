"""Which cluster `make cluster` gives."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.real_cluster.layout import GIVEN_ADDRESS, GIVEN_KUBECONFIG, Origin, layout, record, recorded


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    for name in (GIVEN_ADDRESS, GIVEN_KUBECONFIG):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    layout.cache_clear()
    yield
    layout.cache_clear()


def test_the_users_own_kubeconfig_is_never_taken_by_surprise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where nothing is named and kind is not here, a cluster is built."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "mine"))

    found = layout()

    assert (found.origin, found.kubeconfig) == (Origin.BUILT, found.state / "kubeconfig")


def test_a_cluster_that_is_named_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its nodes reach this machine at the address that is named with it."""
    monkeypatch.setenv(GIVEN_KUBECONFIG, str(tmp_path / "test"))
    with pytest.raises(SystemExit, match=GIVEN_ADDRESS):
        layout()
    monkeypatch.setenv(GIVEN_ADDRESS, "192.0.2.1")

    found = layout()

    assert (found.origin, found.kubeconfig) == (Origin.GIVEN, tmp_path / "test")
    assert (found.registry, found.minio_here) == ("192.0.2.1:5055", "http://192.0.2.1:9000")


def test_what_is_up_is_taken_whatever_is_set_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be taken down as another, and its parts stay."""
    assert recorded() is None
    built = layout()
    record(built)
    layout.cache_clear()
    monkeypatch.setenv(GIVEN_KUBECONFIG, "/another")

    assert recorded() == layout() == built
