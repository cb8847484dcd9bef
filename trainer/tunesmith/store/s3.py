"""A store in a bucket of any S3 service: parallel multipart uploads, resumed downloads, copies made by the service."""

import base64
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

from minio import Minio
from minio.commonconfig import ComposeSource
from minio.credentials.providers import Provider
from minio.error import S3Error
from minio.helpers import check_bucket_name
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from tunesmith.proxies import proxy_to
from tunesmith.store.local_files import appearing, disk_full_is_classified
from tunesmith.store.protocol import (
    CHUNK_BYTES,
    FileEntry,
    NotFoundInStoreError,
    StoredObject,
    check_content,
    check_name,
)
from tunesmith.store.s3_access import S3Address, ca_file, s3_address, s3_credentials
from tunesmith.store.s3_errors import CONFLICTS, S3_ERRORS, UNSUPPORTED, s3_failure
from tunesmith.store.s3_transport import connections
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import StoreLocation

# 5 MiB is the least and 10,000 the most of parts (Amazon S3 user guide, "multipart upload limits"); parts wait in
# memory, files x (parts at once + 1) of them, so they are small unless the file needs larger ones.
_PART_BYTES = 8 << 20
_MOST_PARTS = 10_000
_PARTS_AT_ONCE = 3

# Broken connections after which a download goes on from where it was.
_RESUMES = 3

_Headers = dict[str, str | list[str] | tuple[str]]


class S3Store:
    """Objects below one prefix of one bucket. Thread-safe; not to be shared between processes."""

    def __init__(self, address: S3Address, credentials: Provider, authority: Path | None = None) -> None:
        self._bucket = address.bucket
        self._prefix = address.prefix
        self.uri = f"s3://{address.bucket}/{address.prefix}".rstrip("/") + f" at {address.host}"
        proxy = proxy_to(address.url)
        self._proxy = None if proxy is None else proxy.host
        self._client = Minio(
            address.host,
            secure=address.secure,
            region=address.region,
            credentials=credentials,
            http_client=connections(authority, proxy),
        )

    def put_file(self, source: Path, name: str, *, give: bool = False) -> FileEntry:  # noqa: ARG002  # nothing to link
        with source.open("rb") as stream, self._classified(f"write {name}"):
            size = os.fstat(stream.fileno()).st_size
            hashing = _HashingReader(stream)
            self._client.put_object(
                self._bucket,
                self._key(name),
                cast(BinaryIO, hashing),
                size,
                part_size=_part_bytes(size),
                num_parallel_uploads=_PARTS_AT_ONCE,
            )
        return FileEntry(path=source.name, sha256=hashing.sha256, size=hashing.size)

    def put_bytes(self, data: bytes, name: str, *, if_absent: bool = False) -> bool:
        with self._classified(f"write {name}"):
            if not if_absent:
                self._put(data, name, {})
                return True
            if self._stat(name) is not None:
                return False
            return self._put_if_absent(data, name)

    def get_file(self, name: str, target: Path, expected: FileEntry | None = None) -> None:
        with self._classified(f"read {name}"), disk_full_is_classified(target), appearing(target) as stream:
            digest, size = hashlib.sha256(), 0
            for block in self._blocks(name):
                digest.update(block)
                stream.write(block)
                size += len(block)
            if expected is not None:
                check_content(expected, digest.hexdigest(), size, f"{name} in {self.uri}")

    def read_bytes(self, name: str) -> bytes:
        with self._classified(f"read {name}"):
            return b"".join(self._blocks(name))

    def stat(self, name: str) -> StoredObject | None:
        with self._classified(f"look at {name}"):
            return self._stat(name)

    def list(self, folder: str) -> Iterator[StoredObject]:
        below = self._key(folder) if folder else self._prefix
        with self._classified(f"list {folder or 'everything'}"):
            for found in self._client.list_objects(self._bucket, prefix=f"{below}/" if below else "", recursive=True):
                name = (found.object_name or "").removeprefix(f"{self._prefix}/" if self._prefix else "")
                if name and not name.endswith("/"):
                    yield StoredObject(name, found.size or 0, found.last_modified or datetime.now(UTC))

    def copy(self, source: str, target: str) -> None:
        with self._classified(f"copy {source}"):
            self._client.compose_object(
                self._bucket, self._key(target), [ComposeSource(self._bucket, self._key(source))]
            )

    def delete(self, name: str) -> None:
        with self._classified(f"delete {name}"):
            self._client.remove_object(self._bucket, self._key(name))

    def local_path(self, name: str) -> Path | None:  # noqa: ARG002  # never in place
        return None

    def sweep_partial(self, before: datetime, *, dry_run: bool) -> Iterator[StoredObject]:
        """Multipart uploads that were never completed (their size is not told: 0); MinIO ends its own after a day."""
        with self._classified("list unfinished uploads"):
            # The SDK lists and aborts unfinished uploads only under these names.
            for upload in self._client._list_multipart_uploads(  # noqa: SLF001
                self._bucket, prefix=f"{self._prefix}/" if self._prefix else ""
            ).uploads:
                started, key = upload.initiated_time, upload.object_name
                if started is None or started >= before:
                    continue
                if not dry_run:
                    self._client._abort_multipart_upload(self._bucket, key, cast(str, upload.upload_id))  # noqa: SLF001
                yield StoredObject(key.removeprefix(f"{self._prefix}/"), 0, started)

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{check_name(name)}" if self._prefix else check_name(name)

    def _put(self, data: bytes, name: str, headers: _Headers) -> None:
        # The digest makes the service refuse a body that a dying writer cut off: SeaweedFS 4.48 stores an empty
        # object when only the headers arrive (tests/store/test_artifacts.py, test_killed_at_every_write).
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        # The SDK's public put_object cannot send a condition: it turns unknown headers into metadata.
        self._client._put_object(  # noqa: SLF001
            self._bucket, self._key(name), data, {**headers, "Content-MD5": digest}
        )

    def _put_if_absent(self, data: bytes, name: str) -> bool:
        """Write on the condition that nothing is there, where the service knows conditions, else just write."""
        try:
            self._put(data, name, {"If-None-Match": "*"})
        except S3Error as error:
            if error.code in UNSUPPORTED:
                self._put(data, name, {})
                return True
            if error.code not in CONFLICTS:
                raise
            return False
        return True

    def _stat(self, name: str) -> StoredObject | None:
        try:
            found = self._client.stat_object(self._bucket, self._key(name))
        except S3Error as error:
            if isinstance(s3_failure(error, "", ""), NotFoundInStoreError):
                return None
            raise
        return StoredObject(name, found.size or 0, found.last_modified or datetime.now(UTC))

    def _blocks(self, name: str) -> Iterator[bytes]:
        """The content in order; a connection that breaks on the way is made again from there."""
        at, broken = 0, 0
        while True:
            response = self._client.get_object(self._bucket, self._key(name), offset=at)
            try:
                for block in response.stream(CHUNK_BYTES):
                    at += len(block)
                    yield block
            except (ProtocolError, ReadTimeoutError):
                broken += 1
                if broken > _RESUMES:
                    raise
            else:
                return
            finally:
                response.close()
                response.release_conn()

    @contextmanager
    def _classified(self, action: str) -> Iterator[None]:
        try:
            yield
        except S3_ERRORS as error:
            raise s3_failure(error, action, self.uri, self._proxy) from error


class _HashingReader:
    """A file that remembers the sha256 and the number of bytes of what was read from it, in order."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        self._digest.update(block)
        self.size += len(block)
        return block

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def open_s3(location: StoreLocation, secrets: Path | None) -> S3Store:
    """The store of an ``s3://`` location (`SpecInvalid`, `SecretMissing`)."""
    address = s3_address(location, os.environ)
    with _spec_is_blamed(location.uri):
        check_bucket_name(address.bucket)
    credentials, authority = s3_credentials(location, secrets), ca_file(location, secrets)
    with _spec_is_blamed(location.uri):
        return S3Store(address, credentials, authority)


@contextmanager
def _spec_is_blamed(uri: str) -> Iterator[None]:
    """The SDK's word for a bucket's name, a region or a host that cannot be, said before anything is sent."""
    try:
        yield
    except ValueError as error:
        raise StageFailure(
            FailureClass.SPEC_INVALID,
            f"the store {uri} cannot be reached as it is named: {error}",
            "A bucket's name is 3 to 63 small letters, digits, '.' and '-', with a letter or digit at both ends; a "
            "service other than Amazon's is named by its endpoint.",
        ) from error


def _part_bytes(size: int) -> int:
    """The size of a part: a multiple of 1 MiB with which the file has few enough parts."""
    least = -(-size // _MOST_PARTS)
    return max(_PART_BYTES, -(-least // CHUNK_BYTES) * CHUNK_BYTES)
