"""The way to an API server past and through proxies, as kubectl goes it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.forward_proxy import forward_proxy
from support.servers import free_ports
from support.web import Web, serving_web
from tunesmith.cluster.connection import Aim, Connection, connect
from tunesmith.cluster.problem import ClusterProblem


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Web]:
    """As much of an API server as an answer takes."""
    with serving_web(tmp_path / "web") as web:
        web.put("/version", b'{"major": "1"}')
        yield web


def connected(folder: Path, server: str, **cluster: Any) -> Connection:
    """What a kubeconfig of this server leads to."""
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server} | cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    return connect(Aim(kubeconfig=folder / "kubeconfig"))


def at_name_of_the_proxy(folder: Path, web: Web, **cluster: Any) -> Connection:
    """Of a host that only the proxy knows."""
    url = web.url.replace("127.0.0.1", "api.invalid")
    authority = {"certificate-authority": str(web.authority), "tls-server-name": "127.0.0.1"}
    return connected(folder, url, **authority, **cluster)


def test_loopback_is_reached_past_it(server: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster of kind on a laptop whose proxy is set and knows nothing of it."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_ports(1)[0]}")

    connection = connected(tmp_path, server.url, **{"certificate-authority": str(server.authority)})

    assert connection.ask("GET", "/version") == (200, {"major": "1"})


@pytest.mark.parametrize("where", ["environment", "kubeconfig"])
def test_a_proxy_with_a_password(server: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """It gets the one of its address, and a wrong one is told without being shown."""
    with forward_proxy("anna:s@cret") as proxy:

        def through(password: str) -> Connection:
            address = f"http://anna:{password}@{proxy.address}"
            if where == "kubeconfig":
                return at_name_of_the_proxy(tmp_path, server, **{"proxy-url": address})
            monkeypatch.setenv("HTTPS_PROXY", address.removeprefix("http://"))
            return at_name_of_the_proxy(tmp_path, server)

        assert through("s%40cret").ask("GET", "/version") == (200, {"major": "1"})
        assert [method for method, _ in proxy.passed] == ["CONNECT"]
        with pytest.raises(ClusterProblem) as refused:
            through("wrong").ask("GET", "/version")

    assert f"the proxy {proxy.address}: Tunnel connection failed: 407" in refused.value.message
    assert "wrong" not in refused.value.message


def test_a_proxy_that_is_away(server: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, and not taken for the API server."""
    away = f"127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://anna:secret@{away}")

    with pytest.raises(ClusterProblem) as failed:
        at_name_of_the_proxy(tmp_path, server).ask("GET", "/version")

    assert f"the proxy {away}: " in failed.value.message
    assert failed.value.message.endswith("Connection refused")
    assert "secret" not in failed.value.message


@pytest.mark.parametrize(
    ("cluster", "exempt", "taken"),
    [
        pytest.param({"server": "https://api.example"}, "", "of-environment", id="the environment's"),
        pytest.param({"server": "https://localhost:6443"}, "", None, id="localhost"),
        pytest.param({"server": "https://[::1]:6443"}, "", None, id="loopback of IPv6"),
        pytest.param({"server": "https://api.example"}, ".example", None, id="exempt by domain"),
        pytest.param({"server": "https://10.1.2.3:6443"}, "10.0.0.0/8", None, id="exempt by range"),
        pytest.param(
            {"server": "https://localhost:6443", "proxy-url": "http://own:1"}, "*", "own", id="the kubeconfig's for all"
        ),
    ],
)
def test_which_counts(
    cluster: dict[str, str], exempt: str, taken: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As client-go and Go's own http have it."""
    monkeypatch.setenv("HTTPS_PROXY", "http://of-environment:1")
    monkeypatch.setenv("NO_PROXY", exempt)

    pools = connected(tmp_path, **cluster).client.rest_client.pool_manager

    assert getattr(getattr(pools, "proxy", None), "host", None) == taken


@pytest.mark.parametrize(("address", "said"), [("ftp://p:1", "http://host:port"), ("socks5://p:1", "SOCKS")])
@pytest.mark.filterwarnings("ignore:SOCKS support")
def test_a_proxy_of_another_kind(address: str, said: str, tmp_path: Path) -> None:
    """What cannot be used is said, not crashed at."""
    with pytest.raises(ClusterProblem, match=said):
        connected(tmp_path, "https://api.example", **{"proxy-url": address})
