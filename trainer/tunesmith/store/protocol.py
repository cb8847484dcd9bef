"""What a store is: objects under '/'-separated names go in and come out whole and verified, wherever they live."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.schema import Recorded

# Read and hashed at a time: large enough that the loop costs nothing, small enough for any pod.
CHUNK_BYTES = 1 << 20

# 1,024 bytes is the limit of S3 for a key (Amazon S3 user guide, "Naming Amazon S3 objects").
_NAME_BYTES = 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


class NotFoundInStoreError(Exception):
    """There is no object of that name."""


class FileEntry(Recorded):
    """One file of an artifact: its '/'-separated path inside it, the sha256 of its bytes in hex, its size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as the store lists it: full name, size in bytes, when it was written (UTC)."""

    name: str
    size: int
    modified: datetime


class Store(Protocol):
    """Where artifacts live. Every write is whole or absent; every method may raise a classified `StageFailure`.

    `StoreUnavailable`, `AccessDenied`, `StoreFull` and `SecretMissing` come from any method, `DiskFull` from
    `get_file` when the local disk is full.
    """

    @property
    def uri(self) -> str:
        """The store's address, for messages; never a credential."""
        ...

    def put_file(self, source: Path, name: str, *, give: bool = False) -> FileEntry:
        """Store a file, hashed in the one read that sends it; the entry's path is the file's own name.

        With `give` the caller promises never to write to `source` again, so that a folder may link it.
        """
        ...

    def put_bytes(self, data: bytes, name: str, *, if_absent: bool = False) -> bool:
        """Store small content; False if `if_absent` and an object of that name was there before."""
        ...

    def get_file(self, name: str, target: Path, expected: FileEntry | None = None) -> None:
        """Fetch into `target`, which appears only when whole; `ArtifactCorrupt` if it differs from `expected`.

        Raises `NotFoundInStoreError`.
        """
        ...

    def read_bytes(self, name: str) -> bytes:
        """The content of a small object. Raises `NotFoundInStoreError`."""
        ...

    def stat(self, name: str) -> StoredObject | None:
        """What is known of one object, None if there is none."""
        ...

    def list(self, folder: str) -> Iterator[StoredObject]:
        """All objects below a folder ('' for all), at any depth, in no promised order."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Copy inside the store without moving bytes through this machine where that is possible.

        Raises `NotFoundInStoreError`.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens if there is none."""
        ...

    def local_path(self, name: str) -> Path | None:
        """Where the object can be read in place, None if it has to be fetched."""
        ...

    def sweep_partial(self, before: datetime, *, dry_run: bool) -> Iterator[StoredObject]:
        """Remove (or only name) what writers that died before `before` left half written."""
        ...


def check_name(name: str) -> str:
    """Refuse a name that could leave the store or that some store cannot hold (`Internal`: names are our own)."""
    parts = name.split("/")
    if not name or any(part in {"", ".", ".."} for part in parts) or _CONTROL.search(name):
        raise StageFailure(FailureClass.INTERNAL, f"{name!r} is not a name for an object in the store")
    if len(name.encode()) > _NAME_BYTES:
        raise StageFailure(
            FailureClass.INTERNAL, f"the object name {name[:80]!r}... is longer than {_NAME_BYTES} bytes"
        )
    return name


def check_content(entry: FileEntry, sha256: str, size: int, where: str) -> None:
    """Raise `ArtifactCorrupt` unless what was read is what the entry promises."""
    if size != entry.size:
        raise StageFailure(FailureClass.ARTIFACT_CORRUPT, f"{where} has {size} bytes where {entry.size} were stored")
    if sha256 != entry.sha256:
        raise StageFailure(
            FailureClass.ARTIFACT_CORRUPT,
            f"{where} has sha256 {sha256[:12]}... where {entry.sha256[:12]}... was stored",
        )
