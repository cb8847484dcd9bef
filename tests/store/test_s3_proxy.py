"""The store behind a proxy: through it, past it, with a password, and when it is away."""

import logging
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cutting_proxy import cutting_proxy
from support.forward_proxy import ForwardProxy, forward_proxy
from support.servers import S3Server, free_ports, minio_server
from tunesmith.cluster.reach import told_of_reach
from tunesmith.resolve.buckets import fetch_object, list_bucket
from tunesmith.resolve.uri import parse_source
from tunesmith.store import Store, open_store
from tunesmith_api.failures import FailureClass, StageFailure

from .conftest import Place, s3_place

PASSWORD = "s3:cr@t/ü#"
ESCAPED = "s3%3Acr%40t%2F%C3%BC%23"


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    with forward_proxy() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """MinIO with a certificate that nobody else trusts."""
    with minio_server(tmp_path_factory.mktemp("secure"), tls=True) as server:
        yield server


def at_name_of_the_proxy(server: S3Server, folder: Path) -> Place:
    """A place whose host only the proxy knows."""
    place = s3_place(server, folder)
    endpoint = server.endpoint.replace("127.0.0.1", "store.invalid")
    return Place(place.location.model_copy(update={"endpoint": endpoint}), folder, server)


def closed_port() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


def failure_of(store: Store) -> StageFailure:
    with pytest.raises(StageFailure) as failed:
        store.put_bytes(b"1", "x")
    return failed.value


def use(store: Store, folder: Path) -> None:
    """Whatever a store does: parts, ranges, conditions, copies."""
    (folder / "in").write_bytes(os.urandom(17 << 20))
    entry = store.put_file(folder / "in", "big")
    store.copy("big", "copied")
    store.get_file("copied", folder / "out", entry)
    assert (folder / "in").read_bytes() == (folder / "out").read_bytes()
    assert [store.put_bytes(b"1", "small", if_absent=True) for _ in range(2)] == [True, False]
    assert store.stat("none") is None
    store.delete("copied")
    assert sorted(item.name for item in store.list("")) == ["big", "small"]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
def test_plain_http_through_it(
    minio: S3Server, proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Every request of a store that only the proxy reaches, those for three parts of a file too."""
    monkeypatch.setenv(variable, proxy.url)
    place = at_name_of_the_proxy(minio, tmp_path)

    use(place.open(), tmp_path)

    assert sum("partNumber=" in path for _, path in proxy.passed) == 3
    assert all(path.startswith(f"{place.location.endpoint}/") for _, path in proxy.passed)


def test_https_through_a_tunnel(
    secure: S3Server, proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's own authority counts there as it does without one; the proxy sees its host and no more."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    place = s3_place(secure, tmp_path)

    use(place.open(), tmp_path)

    assert set(proxy.passed) == {("CONNECT", secure.endpoint.removeprefix("https://"))}
    (tmp_path / "store" / "ca.crt").unlink()
    assert "caSecretRef" in failure_of(place.open()).hint


def test_through_a_proxy_that_is_itself_behind_https(
    secure: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's authorities certify it, and not that of the service."""
    (tmp_path / "proxy").mkdir()
    with forward_proxy(certificate=tmp_path / "proxy") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http:", "https:"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "proxy" / "public.crt"))
        use(s3_place(secure, tmp_path).open(), tmp_path)

        assert {method for method, _ in proxy.passed} == {"CONNECT"}


@pytest.mark.parametrize("exempt", ["127.0.0.1", "elsewhere.example, 127.0.0.1:{port}", "*"])
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_past_it(minio: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, exempt: str) -> None:
    """What NO_PROXY names is reached without the proxy, which need not be there then."""
    monkeypatch.setenv("HTTP_PROXY", f"http://{closed_port()}")
    monkeypatch.setenv(variable, exempt.format(port=minio.endpoint.rpartition(":")[2]))

    assert s3_place(minio, tmp_path).open().put_bytes(b"1", "x")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password(
    scheme: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It gets the one of its address, which stands in no log; another is told without being shown."""
    caplog.set_level(logging.DEBUG)
    place = s3_place(request.getfixturevalue("minio" if scheme == "http" else "secure"), tmp_path)
    with forward_proxy(f"anna:{PASSWORD}") as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://anna:{ESCAPED}@{proxy.address}")
        assert place.open().put_bytes(b"1", "x")
        assert proxy.passed
        monkeypatch.setenv(f"{scheme}_proxy", f"http://anna:wrong-one@{proxy.address}")
        failure = failure_of(place.open())

    assert failure.failure is FailureClass.ACCESS_DENIED
    assert f"through the proxy {proxy.address}" in failure.message
    assert "name and password" in failure.hint
    shown = caplog.text + "".join(traceback.format_exception(failure)) + failure.hint
    assert not [secret for secret in ("anna", "wrong-one", PASSWORD, ESCAPED) if secret in shown]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_away(
    minio: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    scheme: str,
) -> None:
    """StoreUnavailable, which names it without its password and says where it is set."""
    caplog.set_level(logging.DEBUG)
    away = closed_port()
    monkeypatch.setenv(f"{scheme}_proxy", f"http://anna:{ESCAPED}@{away}")
    location = s3_place(minio, tmp_path).location.model_copy(update={"endpoint": f"{scheme}://store.invalid"})

    failure = failure_of(open_store(location, tmp_path))

    assert failure.failure is FailureClass.STORE_UNAVAILABLE
    assert f"store.invalid through the proxy {away}: it does not answer" in failure.message
    assert "network.httpsProxy" in failure.hint
    shown = caplog.text + "".join(traceback.format_exception(failure)) + failure.hint
    assert not [secret for secret in ("anna", ESCAPED, PASSWORD) if secret in shown]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_no_service_that_does(
    minio: S3Server, proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Its 403 is a page and no word of S3: the credentials are right, and the way is wrong."""
    monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
    proxy.refusal = 403
    location = s3_place(minio, tmp_path).location.model_copy(update={"endpoint": f"{scheme}://store.invalid"})

    failure = failure_of(open_store(location, tmp_path))

    assert failure.failure is FailureClass.STORE_UNAVAILABLE
    assert "403" in failure.message
    assert "NO_PROXY" in failure.hint


@pytest.mark.parametrize("scheme", [pytest.param("http", marks=pytest.mark.slow), "https"])
def test_a_service_that_the_proxy_does_not_reach(
    minio: S3Server, proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """As a store inside the cluster that nobody has put into NO_PROXY: both are named, and the hint says so."""
    monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
    endpoint = f"{scheme}://{closed_port()}"
    location = s3_place(minio, tmp_path).location.model_copy(update={"endpoint": endpoint})

    failure = failure_of(open_store(location, tmp_path))

    assert failure.failure is FailureClass.STORE_UNAVAILABLE
    assert f"{endpoint.removeprefix(f'{scheme}://')} through the proxy {proxy.address}" in failure.message
    assert "502" in failure.message
    assert "NO_PROXY" in failure.hint


def test_a_download_through_a_proxy_that_breaks_off(
    minio: S3Server, proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on from where it was, as it does without one."""
    place = at_name_of_the_proxy(minio, tmp_path)
    (tmp_path / "in").write_bytes(os.urandom(4 << 20))
    entry = s3_place(minio, tmp_path).open().put_file(tmp_path / "in", "elsewhere")
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    place.open().put_file(tmp_path / "in", "file")
    proxy.passed.clear()

    with cutting_proxy(proxy.server_port, cuts=2, after=1 << 20) as through:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{through}")
        place.open().get_file("file", tmp_path / "out", entry)

    assert (tmp_path / "in").read_bytes() == (tmp_path / "out").read_bytes()
    assert [method for method, _ in proxy.passed] == ["GET"] * 3


def test_a_source(minio: S3Server, proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is listed and read through the proxy; one that is away is told with the source."""
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    place = at_name_of_the_proxy(minio, tmp_path)
    place.open().put_bytes(b"{}\n", "rows.jsonl")
    source = parse_source(f"{place.location.uri}/rows.jsonl")
    bucket = place.location.model_copy(update={"uri": f"s3://{minio.bucket}"})

    files, single = list_bucket(source, bucket, tmp_path)
    fetch_object(source, files[0], tmp_path / "rows", bucket, tmp_path)
    monkeypatch.setenv("HTTP_PROXY", f"http://{(away := closed_port())}")
    with pytest.raises(StageFailure) as failed:
        list_bucket(source, bucket, tmp_path)

    assert ((tmp_path / "rows").read_bytes(), single) == (b"{}\n", True)
    assert failed.value.failure is FailureClass.SOURCE_UNAVAILABLE
    assert f"through the proxy {away}" in failed.value.message
    assert "NO_PROXY" in failed.value.hint


def test_a_store_from_a_laptop(minio: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows whether proxy or cluster is in the way: what helps for either is said."""
    monkeypatch.setenv("HTTP_PROXY", f"http://{closed_port()}")

    with pytest.raises(StageFailure) as failed, told_of_reach(None):
        s3_place(minio, tmp_path).open().stat("x")

    assert ["NO_PROXY" in failed.value.hint, "port-forward" in failed.value.hint] == [True, True]


def test_credentials_of_a_role(tmp_path: Path, minio: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Amazon's token service is asked through the proxy, also where the store needs none."""
    (tmp_path / "identity").write_text("token")
    for name in [name for name in os.environ if name.startswith(("AWS_", "MINIO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "identity"))
    monkeypatch.setenv("HTTPS_PROXY", f"http://{(away := closed_port())}")
    location = s3_place(minio, tmp_path).location.model_copy(update={"secret": None})

    failure = failure_of(open_store(location, tmp_path))

    assert failure.failure is FailureClass.STORE_UNAVAILABLE
    assert f"through the proxy {away}" in failure.message


def test_a_proxy_of_another_kind(minio: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the S3 client cannot use is said before anything is sent, without the address and its password."""
    monkeypatch.setenv("HTTP_PROXY", "socks5://anna:secret@127.0.0.1:1080")

    with pytest.raises(StageFailure) as failed:
        s3_place(minio, tmp_path).open()

    assert failed.value.failure is FailureClass.SPEC_INVALID
    assert "HTTP_PROXY" in failed.value.message
    assert "secret" not in failed.value.message + failed.value.hint
