"""A network's own authorities, beside the public ones."""

import ssl
from pathlib import Path

import certifi
import httpx
import pytest
import requests

from support.web import serving_web
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.names import AUTHORITIES_VARIABLE
from tunesmith_trainer.authorities import trust_own_authorities


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test sets goes with it."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_own_authorities_are_trusted_beside_the_public_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a real server of such an authority, in both libraries that stages ask with."""
    with serving_web(tmp_path / "web") as web:
        page = web.put("/rows.jsonl", b"{}")
        with pytest.raises(httpx.ConnectError):
            httpx.get(page)
        monkeypatch.setenv(AUTHORITIES_VARIABLE, str(web.authority))
        trust_own_authorities(tmp_path)
        assert httpx.get(page).content == b"{}"
        assert requests.get(page, timeout=60).content == b"{}"

    public = ssl.create_default_context(cafile=certifi.where()).get_ca_certs(binary_form=True)
    trusted = httpx.create_ssl_context().get_ca_certs(binary_form=True)
    assert len(public) > 100
    assert len(trusted) == len(public) + 1


def test_without_any_nothing_changes(tmp_path: Path) -> None:
    """A laptop's stages do not write a file for it."""
    trust_own_authorities(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_config_map_without_the_key_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the key's name."""
    monkeypatch.setenv(AUTHORITIES_VARIABLE, str(tmp_path / "ca.crt"))
    with pytest.raises(StageFailure) as caught:
        trust_own_authorities(tmp_path)

    assert caught.value.failure is FailureClass.SPEC_INVALID
    assert "the key ca.crt" in caught.value.hint
