"""`tunesmith fetch` from a real S3 service: everything that was published, right, and over nobody's files."""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.cli import called
from support.runs import Ran
from support.servers import S3Server
from tunesmith.store import Artifacts, FolderStore, open_store
from tunesmith.store.published import Source, latest, publish
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import StoreLocation

KEY, LATER = "a" * 64, "b" * 64
FILES = {
    "bot-Q8_0.gguf": bytes(range(256)) * 4000,
    "adapter/adapter_config.json": b"{}",
    "report.json": b'{"job":"bot"}',
}


@dataclass(frozen=True)
class Bucket:
    """A job's artifacts below a prefix of their own, with credentials in a Secret's folder."""

    server: S3Server
    uri: str
    secrets: Path

    @property
    def artifacts(self) -> Artifacts:
        location = StoreLocation(uri=self.uri, endpoint=self.server.endpoint, secret="store", namespace="team")
        return Artifacts(open_store(location, self.secrets), "team")

    def publish(self, folder: Path, key: str, files: dict[str, bytes]) -> None:
        """As a publish stage does: files of an artifact, copied into the published folder."""
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        manifest = self.artifacts.commit("publication", key, folder)
        publish(self.artifacts, "bot", key, {name: Source(manifest, name) for name in files})

    def damage(self, name: str) -> None:
        """Flip one bit of a published file."""
        key = f"{self.uri.split('/', 3)[3]}/team/published/bot/{KEY[:12]}/{name}"
        client = self.server.client()
        data = bytearray(client.get_object(self.server.bucket, key).read())
        data[len(data) // 2] ^= 1
        client._put_object(self.server.bucket, key, bytes(data))

    def fetch(self, out: Path, *more: str) -> Ran:
        """Without a cluster: what a job has made outlives it."""
        store = ("--store", self.uri, "--store-endpoint", self.server.endpoint, "--namespace", "team")
        keys = {"AWS_ACCESS_KEY_ID": self.server.access_key, "AWS_SECRET_ACCESS_KEY": self.server.secret_key}
        return called("fetch", "bot", "--output", out, *store, *more, KUBECONFIG="/nonexistent", **keys)


@pytest.fixture
def bucket(minio: S3Server, tmp_path: Path) -> Bucket:
    minio.write_secret(tmp_path / "secrets" / "store")
    return Bucket(minio, f"s3://{minio.bucket}/{uuid.uuid4().hex[:12]}", tmp_path / "secrets")


def there(folder: Path) -> dict[str, bytes]:
    """The files that a user sees."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".tunesmith" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_everything_comes_and_is_right(bucket: Bucket, tmp_path: Path) -> None:
    """A second time nothing is written; as JSON the paths are told."""
    bucket.publish(tmp_path / "made", KEY, FILES)
    found = bucket.fetch(tmp_path / "out")
    assert (found.code, found.stderr) == (0, "")
    assert there(tmp_path / "out") == FILES
    before = (tmp_path / "out" / "bot-Q8_0.gguf").stat()

    again = bucket.fetch(tmp_path / "out", "--json")
    told = json.loads(again.stdout)
    assert (told["job"], told["namespace"], told["key"]) == ("bot", "team", KEY)
    assert told["files"] == sorted(str(tmp_path / "out" / name) for name in FILES)
    after = (tmp_path / "out" / "bot-Q8_0.gguf").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_flipped_bit_is_caught(bucket: Bucket, tmp_path: Path) -> None:
    """No file of that name appears, whole or half."""
    bucket.publish(tmp_path / "made", KEY, FILES)
    bucket.damage("bot-Q8_0.gguf")
    found = bucket.fetch(tmp_path / "out")

    assert found.code == 1
    assert "ArtifactCorrupt: bot-Q8_0.gguf, as it is published in the store, is damaged" in found.stderr
    assert not (tmp_path / "out" / "bot-Q8_0.gguf").exists()
    assert not list((tmp_path / "out" / ".tunesmith").rglob("*.gguf*"))


def test_a_file_that_is_missing_is_named(bucket: Bucket, tmp_path: Path) -> None:
    """It was published, and somebody has removed it."""
    bucket.publish(tmp_path / "made", KEY, FILES)
    bucket.artifacts.store.delete(f"team/published/bot/{KEY[:12]}/report.json")
    found = bucket.fetch(tmp_path / "out")

    assert found.code == 1
    assert "report.json, as it is published in the store, is missing" in found.stderr


def test_a_file_of_the_user_stays(bucket: Bucket, tmp_path: Path) -> None:
    """Another one of that name; nothing is written at all, and the sentence says what to do."""
    bucket.publish(tmp_path / "made", KEY, FILES)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("mine")
    found = bucket.fetch(tmp_path / "out")

    assert found.code == 2
    assert "report.json" in found.stderr
    assert "--output" in found.stderr
    assert there(tmp_path / "out") == {"report.json": b"mine"}


def test_what_is_published_no_more_goes(bucket: Bucket, tmp_path: Path) -> None:
    """And what was changed since by the user is kept."""
    bucket.publish(tmp_path / "made", KEY, FILES)
    assert bucket.fetch(tmp_path / "out").code == 0
    (tmp_path / "out" / "notes.txt").write_text("mine")
    later = {"bot-Q4_K_M.gguf": b"smaller", "report.json": b'{"job":"bot","later":1}'}
    bucket.publish(tmp_path / "made later", LATER, later)

    assert bucket.fetch(tmp_path / "out").code == 0
    assert there(tmp_path / "out") == later | {"notes.txt": b"mine"}


def test_a_job_that_has_published_nothing_is_told(bucket: Bucket, tmp_path: Path) -> None:
    """Nothing is made for it."""
    found = bucket.fetch(tmp_path / "out")

    assert found.code == 1
    assert "has nothing that bot of the namespace team has published" in found.stderr
    assert not (tmp_path / "out").exists()


def test_without_credentials_both_ways_are_named(bucket: Bucket, tmp_path: Path) -> None:
    """Folder or environment."""
    surroundings = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": str(tmp_path)}
    found = called("fetch", "bot", "--store", bucket.uri, "--namespace", "team", **surroundings)

    assert found.code == 1
    assert "SecretMissing" in found.stderr
    assert "AWS_ACCESS_KEY_ID" in found.stderr


@pytest.mark.parametrize("path", ["../../.bashrc", "/etc/passwd", ".tunesmith/lock", "a/../../b"])
def test_a_list_that_leads_elsewhere_is_refused(path: str, tmp_path: Path) -> None:
    """A list in a store is somebody else's word."""
    told = {"job": "bot", "key": KEY, "files": [{"path": path, "sha256": "d" * 64, "size": 1}]}
    store = FolderStore(tmp_path)
    store.put_bytes(json.dumps(told).encode(), "team/published/bot/latest.json")
    with pytest.raises(StageFailure) as refused:
        latest(Artifacts(store, "team"), "bot")

    assert refused.value.failure is FailureClass.ARTIFACT_CORRUPT
