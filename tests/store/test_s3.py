"""What only a store on S3 meets: addresses, credentials, certificates, and services that are away, full or cut off."""

import os
import socket
import time
import traceback
import uuid
from collections.abc import Iterator
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.cutting_proxy import cutting_proxy
from support.parts_proxy import parts_proxy
from support.servers import ACCESS_KEY, SECRET_KEY, S3Server, minio_server
from support.small_disk import mounted
from tunesmith.store import Store, open_store
from tunesmith.store.checkpoints import Checkpoints
from tunesmith.store.s3_access import s3_address
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import StoreLocation

from .conftest import s3_place

S3_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of whoever runs the tests."""
    for name in os.environ:
        if name.startswith(("AWS_", "MINIO_", "TUNESMITH_")) and name != "TUNESMITH_CACHE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))


@pytest.fixture(params=["minio", "seaweedfs"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    return found


def failure_of(store: Store) -> StageFailure:
    with pytest.raises(StageFailure) as failed:
        store.put_bytes(b"1", "x")
    return failed.value


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        pytest.param({"uri": "s3://b"}, ("s3.amazonaws.com", True, None, "b", ""), id="Amazon, region asked for"),
        pytest.param(
            {"uri": "s3://b/p/q/", "region": "eu-central-1"},
            ("s3.eu-central-1.amazonaws.com", True, "eu-central-1", "b", "p/q"),
            id="Amazon by region",
        ),
        pytest.param(
            {"uri": "s3://b/p", "endpoint": "http://minio:9000"},
            ("minio:9000", False, "us-east-1", "b", "p"),
            id="another service",
        ),
        pytest.param(
            {"uri": "s3://b", "endpoint": "minio.example", "region": "garage"},
            ("minio.example", True, "garage", "b", ""),
            id="https unless said",
        ),
    ],
)
def test_address(location: dict[str, str], expected: tuple[object, ...]) -> None:
    """Where a location leads."""
    assert expected == astuple(s3_address(StoreLocation.model_validate(location), {}))


def test_address_of_the_environment() -> None:
    """What S3 tools read counts where the location is silent, and only there."""
    environment = {"AWS_ENDPOINT_URL": "http://h:1", "AWS_DEFAULT_REGION": "r1"}
    silent, said = StoreLocation(uri="s3://b"), StoreLocation(uri="s3://b", endpoint="http://e:2", region="r2")

    assert astuple(s3_address(silent, environment)) == ("h:1", False, "r1", "b", "")
    assert astuple(s3_address(said, environment)) == ("e:2", False, "r2", "b", "")


@pytest.mark.parametrize(
    "location",
    [
        {"uri": "s3://ab/x"},
        {"uri": "s3://a..b/x"},
        {"uri": "s3://a-b-/x"},
        {"uri": "s3://bucket/x", "region": "not a region"},
    ],
)
def test_an_address_that_the_sdk_refuses(location: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the manifest's fault too, told before anything is asked and with what would be right."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(StageFailure) as failed:
        open_store(StoreLocation.model_validate(location)).stat("x")

    assert (failed.value.failure, "bucket" in failed.value.hint) == (FailureClass.SPEC_INVALID, True)
    assert "s3://" in failed.value.message


@pytest.mark.parametrize(
    "location", [{"uri": "s3:///p"}, {"uri": "gs://b"}, {"uri": ""}, {"uri": "s3://b", "endpoint": "ftp://x"}]
)
def test_no_address(location: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that leads nowhere is the manifest's fault."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(StageFailure) as failed:
        open_store(StoreLocation.model_validate(location))

    assert failed.value.failure is FailureClass.SPEC_INVALID


def test_credentials_of_the_environment(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Secret the variables of S3 tools count."""
    location = StoreLocation(uri=f"s3://{server.bucket}/{uuid.uuid4()}", endpoint=server.endpoint)
    with pytest.raises(StageFailure) as failed:
        open_store(location)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)

    assert failed.value.failure is FailureClass.SECRET_MISSING
    assert open_store(location).put_bytes(b"1", "x")


def test_credentials_of_the_configuration(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without variables the credentials file of S3 tools counts."""
    file = tmp_path / "credentials"
    file.write_text(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    location = StoreLocation(uri=f"s3://{server.bucket}/{uuid.uuid4()}", endpoint=server.endpoint)

    assert open_store(location).put_bytes(b"1", "x")


@pytest.mark.parametrize("lost", ["accessKey", "secretKey"])
def test_a_secret_without_a_key(minio: S3Server, tmp_path: Path, lost: str) -> None:
    """The missing key is named, before anything is contacted; the environment does not stand in."""
    place = s3_place(minio, tmp_path)
    (tmp_path / "store" / lost).unlink()

    with pytest.raises(StageFailure) as failed:
        place.open()

    assert (failed.value.failure, lost in failed.value.message) == (FailureClass.SECRET_MISSING, True)


@pytest.mark.parametrize(("access", "secret"), [("nobody-here", SECRET_KEY), (ACCESS_KEY, "wrong-secret-key")])
def test_wrong_credentials(server: S3Server, tmp_path: Path, access: str, secret: str) -> None:
    """AccessDenied, and neither message nor traceback shows a key."""
    place = s3_place(server, tmp_path)
    (tmp_path / "store" / "accessKey").write_text(access)
    (tmp_path / "store" / "secretKey").write_text(secret)

    failure = failure_of(place.open())

    shown = "".join(traceback.format_exception(failure)) + failure.hint
    assert failure.failure is FailureClass.ACCESS_DENIED
    assert server.bucket in failure.message
    assert not [key for key in (access, secret) if key in shown]


def test_a_bucket_that_is_not_there(server: S3Server, tmp_path: Path) -> None:
    """It is named, and the hint says what to do."""
    place = s3_place(server, tmp_path)
    store = open_store(place.location.model_copy(update={"uri": "s3://no-such-bucket/p"}), tmp_path)

    with pytest.raises(StageFailure) as failed:
        store.read_bytes("x")

    assert failed.value.failure is FailureClass.STORE_UNAVAILABLE
    assert "no-such-bucket" in failed.value.message
    assert "bucket" in failed.value.hint


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://no-such-host.invalid:9000"])
def test_an_absent_service(minio: S3Server, tmp_path: Path, endpoint: str) -> None:
    """Nobody listening, or no such host: StoreUnavailable within 20 s."""
    place = s3_place(minio, tmp_path)
    began = time.monotonic()

    failure = failure_of(open_store(place.location.model_copy(update={"endpoint": endpoint}), tmp_path))

    assert failure.failure is FailureClass.STORE_UNAVAILABLE
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_a_silent_service(minio: S3Server, tmp_path: Path) -> None:
    """A host that never answers a connection: StoreUnavailable within 20 s."""
    place = s3_place(minio, tmp_path)
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        # A queue of one that is full: Linux then drops what asks to connect (listen(2)).
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for one in (first, second):
            one.settimeout(0)
            one.connect_ex(address)
        endpoint = f"http://127.0.0.1:{address[1]}"
        began = time.monotonic()

        failure = failure_of(open_store(place.location.model_copy(update={"endpoint": endpoint}), tmp_path))

    assert failure.failure is FailureClass.STORE_UNAVAILABLE
    assert 5 < time.monotonic() - began < 20


def test_a_broken_connection_is_taken_up_again(server: S3Server, tmp_path: Path) -> None:
    """A download that is cut off twice goes on from where it was and is verified as a whole."""
    place = s3_place(server, tmp_path)
    data = os.urandom(4 << 20)
    (tmp_path / "in").write_bytes(data)
    entry = place.open().put_file(tmp_path / "in", "file")
    port = int(server.endpoint.rsplit(":", 1)[1])

    with cutting_proxy(port, cuts=2, after=1 << 20) as through:
        location = place.location.model_copy(update={"endpoint": f"http://127.0.0.1:{through}"})
        open_store(location, tmp_path).get_file("file", tmp_path / "out", entry)

    assert data == (tmp_path / "out").read_bytes()


def test_a_connection_that_always_breaks(minio: S3Server, tmp_path: Path) -> None:
    """It is given up, classified, and leaves nothing half written."""
    place = s3_place(minio, tmp_path)
    (tmp_path / "in").write_bytes(os.urandom(16 << 20))
    entry = place.open().put_file(tmp_path / "in", "file")
    port = int(minio.endpoint.rsplit(":", 1)[1])

    with cutting_proxy(port, cuts=1000, after=1 << 18) as through:
        location = place.location.model_copy(update={"endpoint": f"http://127.0.0.1:{through}"})
        with pytest.raises(StageFailure) as failed:
            open_store(location, tmp_path).get_file("file", tmp_path / "out" / "file", entry)

    assert failed.value.failure is FailureClass.STORE_UNAVAILABLE
    assert list((tmp_path / "out").iterdir()) == []


def test_large_files_travel_in_parts_side_by_side(server: S3Server, tmp_path: Path) -> None:
    """Three parts of 8 MiB: the service's ETag counts them, and is no digest of the file (P73)."""
    place = s3_place(server, tmp_path)
    (tmp_path / "in").write_bytes(bytes(17 << 20))
    with parts_proxy(int(server.endpoint.rsplit(":", 1)[1])) as proxy:
        location = place.location.model_copy(update={"endpoint": f"http://127.0.0.1:{proxy.port}"})
        open_store(location, tmp_path).put_file(tmp_path / "in", "file")
    assert proxy.most > 1

    key = place.location.uri.split("/", 3)[3]
    etag = server.client().stat_object(server.bucket, f"{key}/file").etag

    assert etag is not None
    assert etag.endswith("-3")


def test_unfinished_uploads_are_swept(seaweedfs: S3Server, tmp_path: Path) -> None:
    """What a writer left that died between two parts; MinIO names these to nobody and ends them itself."""
    place = s3_place(seaweedfs, tmp_path)
    key = place.location.uri.split("/", 3)[3]
    seaweedfs.client()._create_multipart_upload(seaweedfs.bucket, f"{key}/ns/big", {})
    store, now = place.open(), datetime.now(UTC)

    assert list(store.sweep_partial(now - timedelta(days=1), dry_run=False)) == []
    later = now + timedelta(days=1)
    assert [item.name for item in store.sweep_partial(later, dry_run=True)] == ["ns/big"]
    assert [item.name for item in store.sweep_partial(later, dry_run=False)] == ["ns/big"]
    assert list(store.sweep_partial(later, dry_run=True)) == []


def test_a_service_that_goes_away_and_comes_back(tmp_path: Path, work: Path) -> None:
    """The checkpoint that it was to take is no checkpoint, with a failure that says so; the one before is whole."""

    def checkpoints_on(server: S3Server) -> Checkpoints:
        server.write_secret(tmp_path / "store")
        location = StoreLocation(uri=f"s3://{server.bucket}", endpoint=server.endpoint, secret="store")
        return Checkpoints(open_store(location, tmp_path), "default", "a1" * 32)

    with minio_server(tmp_path / "one", data=tmp_path / "disk") as server:
        checkpoints = checkpoints_on(server)
        checkpoints.save(2, work)
    with pytest.raises(StageFailure) as failed:
        checkpoints.save(4, work)
    with minio_server(tmp_path / "two", data=tmp_path / "disk") as server:
        checkpoints = checkpoints_on(server)
        newest = checkpoints.fetch_newest(tmp_path / "back")
        assert newest is not None
        assert (newest[0], checkpoints.steps()) == (2, [2])
        checkpoints.save(4, work)
        assert checkpoints.steps() == [4, 2]

    assert failed.value.failure is FailureClass.STORE_UNAVAILABLE
    assert server.bucket in failed.value.message
    assert "reach" in failed.value.hint
    assert (tmp_path / "back" / "2" / "weights.bin").read_bytes() == (work / "weights.bin").read_bytes()


def test_a_service_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    """With ca.crt in the Secret it is trusted; without, the failure says what is missing."""
    with minio_server(tmp_path / "server", tls=True) as server:
        place = s3_place(server, tmp_path / "secrets")
        other = tmp_path / "secrets" / "authority"
        other.mkdir()
        assert place.open().put_bytes(b"1", "x")

        (tmp_path / "secrets" / "store" / "ca.crt").rename(other / "ca.crt")
        failure = failure_of(place.open())
        assert failure.failure is FailureClass.STORE_UNAVAILABLE
        assert "caSecretRef" in failure.hint

        with_authority = place.location.model_copy(update={"ca_secret": "authority"})
        assert open_store(with_authority, tmp_path / "secrets").put_bytes(b"1", "x")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", 64 << 20) as disk:
        yield disk.folder


def test_a_full_service(small_disk: Path, tmp_path: Path) -> None:
    """StoreFull, and what was there stays."""
    (tmp_path / "big").write_bytes(os.urandom(80 << 20))
    with minio_server(tmp_path / "server", data=small_disk) as server:
        store = s3_place(server, tmp_path / "secrets").open()
        store.put_bytes(b"kept", "small")

        with pytest.raises(StageFailure) as failed:
            store.put_file(tmp_path / "big", "big")

        assert failed.value.failure is FailureClass.STORE_FULL
        assert [item.name for item in store.list("")] == ["small"]


def test_credentials_in_an_endpoint_are_not_shown() -> None:
    """They do not belong there, and the refusal does not repeat them."""
    location = StoreLocation(uri="s3://b/p", endpoint="http://user:password@host:1")
    with pytest.raises(StageFailure) as failed:
        s3_address(location, {})

    assert "password" not in failed.value.message
