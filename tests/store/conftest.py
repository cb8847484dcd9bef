"""The three real places that every promise of the store is tested on: a folder, MinIO and SeaweedFS."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.servers import S3Server, minio_server, seaweedfs_server
from tunesmith.store import Artifacts, Store, open_store
from tunesmith_api.stages import StoreLocation


@dataclass(frozen=True)
class Place:
    """Where a test's store is, and the way to the same bytes behind the store's back."""

    location: StoreLocation
    secrets: Path
    server: S3Server | None

    def open(self) -> Store:
        return open_store(self.location, self.secrets)

    def artifacts(self) -> Artifacts:
        return Artifacts(self.open(), "default")

    def overwrite(self, name: str, data: bytes) -> None:
        """Put other bytes where an object is, as a broken disk would."""
        if self.server is not None:
            self.server.client()._put_object(self.server.bucket, self._key(name), data)
            return
        path = Path(self.location.uri) / name
        path.chmod(0o644)
        path.write_bytes(data)

    def remove(self, name: str) -> None:
        if self.server is not None:
            self.server.client().remove_object(self.server.bucket, self._key(name))
        else:
            (Path(self.location.uri) / name).unlink()

    def _key(self, name: str) -> str:
        return f"{self.location.uri.split('/', 3)[3]}/{name}"


def s3_place(server: S3Server, secrets: Path) -> Place:
    """A prefix of its own in the server's bucket, with the credentials in a Secret's folder."""
    server.write_secret(secrets / "store")
    uri = f"s3://{server.bucket}/{uuid.uuid4().hex[:12]}"
    return Place(StoreLocation(uri=uri, endpoint=server.endpoint, secret="store"), secrets, server)


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with minio_server(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs_server(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(params=["folder", "minio", "seaweedfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty store of each kind."""
    if request.param == "folder":
        return Place(StoreLocation(uri=str(tmp_path / "store")), tmp_path / "secrets", None)
    return s3_place(request.getfixturevalue(request.param), tmp_path / "secrets")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with two small files, one of them deeper, and an empty one."""
    folder = tmp_path / "work"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 400)
    (folder / "deep" / "er" / "umlaut ä & +.txt").write_text("Grüße")
    (folder / "empty").touch()
    return folder
