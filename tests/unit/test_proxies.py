"""Which proxy leads to an address, as the environment says it."""

import base64
import os

import pytest

from tunesmith.proxies import Proxy, proxy_at, proxy_to
from tunesmith_api.failures import FailureClass, StageFailure

STORE = "https://store.example:9000"


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def basic(secret: str) -> dict[str, str]:
    return {"Proxy-Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}


@pytest.mark.parametrize(
    ("environment", "led"),
    [
        pytest.param({}, False, id="none"),
        pytest.param({"HTTPS_PROXY": "http://p:1"}, True, id="in capitals"),
        pytest.param({"https_proxy": "http://p:1"}, True, id="in small letters"),
        pytest.param({"HTTPS_PROXY": "http://other:1", "https_proxy": "http://p:1"}, True, id="small letters first"),
        pytest.param({"HTTPS_PROXY": "http://p:1", "https_proxy": ""}, False, id="emptied in small letters"),
        pytest.param({"HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"}, False, id="of other schemes"),
    ],
)
def test_who_names_it(environment: dict[str, str], led: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable of the address's own scheme."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert proxy_to(STORE) == (Proxy("http://p:1", {}) if led else None)


@pytest.mark.parametrize(
    ("url", "exempt", "led"),
    [
        (STORE, "example", False),
        (STORE, ".store.example", False),
        (STORE, "STORE.example:9000", False),
        (STORE, "store.example:443, store.example:80", True),
        (STORE, "tore.example", True),
        (STORE, "*", False),
        ("https://store.example", "store.example:443", False),
        ("https://[fd00::1]:9000", "fd00::1", False),
        ("https://[fd00::1]:9000", "[fd00::1]:9000", False),
        ("https://[fd00::1]:9000", "fd00::2", True),
        ("https://localhost:9000", "store.example", True),
    ],
)
def test_what_needs_none(url: str, exempt: str, led: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host, all below a domain, with the port or without; this machine too only where it is said."""
    monkeypatch.setenv("HTTPS_PROXY", "http://p:1")
    monkeypatch.setenv("NO_PROXY", exempt)

    assert (proxy_to(url) is not None) == led


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("http://p:1", Proxy("http://p:1", {})),
        ("p:1", Proxy("http://p:1", {})),
        ("HTTPS://p/", Proxy("https://p", {})),
        ("http://[::1]:3128", Proxy("http://[::1]:3128", {})),
        ("anna:b@p:1", Proxy("http://p:1", basic("anna:b"))),
        ("http://anna@p:1", Proxy("http://p:1", basic("anna"))),
        ("http://anna:b%40%C3%BC%25@p:1", Proxy("http://p:1", basic("anna:b@ü%"))),
        ("http://anna:b@/#?:://c@p:1/", Proxy("http://p:1", basic("anna:b@/#?:://c"))),
    ],
)
def test_its_address(named: str, expected: Proxy) -> None:
    """The password stands in the header alone, which nothing shows; escaped or not it is read."""
    assert proxy_at(named, "HTTPS_PROXY") == expected
    assert "Basic" not in repr(proxy_at(named, "HTTPS_PROXY"))


@pytest.mark.parametrize("named", ["socks5://anna:secret@p:1", "http://anna:secret", "http://secret@", "http://:1"])
def test_no_address(named: str) -> None:
    """It is not repeated, since nobody knows which part of it is the password."""
    with pytest.raises(StageFailure) as failed:
        proxy_at(named, "HTTPS_PROXY")

    assert failed.value.failure is FailureClass.SPEC_INVALID
    assert "HTTPS_PROXY" in failed.value.message
    assert not [part for part in ("secret", "anna") if part in failed.value.message + failed.value.hint]
