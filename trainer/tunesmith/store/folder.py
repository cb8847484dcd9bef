"""A store in a folder: atomic by rename, reads in place, shares blocks where the file system can."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tunesmith.store.local_files import (
    DISK_FULL_ERRORS,
    appearing,
    clone_or_copy,
    disk_full_is_classified,
    sha256_of,
    sync_folder,
)
from tunesmith.store.protocol import FileEntry, NotFoundInStoreError, StoredObject, check_content, check_name
from tunesmith_api.failures import FailureClass, StageFailure

# Where bytes wait until they are whole: inside the store, so that the final rename stays on one file system.
PARTIAL_FOLDER = ".partial"

# Stored files are never written again; without write permission a slip of ours or of a tool fails at once.
_READ_ONLY = 0o444

# `delete` removes folders that became empty; a writer that has just made one tries again.
_RENAME_ATTEMPTS = 5

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK})


class FolderStore:
    """Objects are files below one folder; half-written ones wait in ``.partial`` and are never listed."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()

    @property
    def uri(self) -> str:
        return self.root.as_uri()

    def put_file(self, source: Path, name: str, *, give: bool = False) -> FileEntry:
        with self._classified(f"write {name}"):
            partial = self._partial()
            try:
                if give and not source.is_symlink() and _linked(source, partial):
                    sha256, size = sha256_of(partial)
                else:
                    with partial.open("xb") as stream:
                        sha256, size = clone_or_copy(source, stream)
                self._settle(partial, name)
            finally:
                partial.unlink(missing_ok=True)
        return FileEntry(path=source.name, sha256=sha256, size=size)

    def put_bytes(self, data: bytes, name: str, *, if_absent: bool = False) -> bool:
        with self._classified(f"write {name}"):
            partial = self._partial()
            try:
                partial.write_bytes(data)
                return self._settle(partial, name, if_absent=if_absent)
            finally:
                partial.unlink(missing_ok=True)

    def get_file(self, name: str, target: Path, expected: FileEntry | None = None) -> None:
        with self._classified(f"read {name}"), disk_full_is_classified(target):
            source = self._existing(name)
            with appearing(target, target.with_name(f"{target.name}.partial")) as stream:
                sha256, size = clone_or_copy(source, stream)
                if expected is not None:
                    check_content(expected, sha256, size, f"{name} in {self.uri}")

    def read_bytes(self, name: str) -> bytes:
        with self._classified(f"read {name}"):
            return self._existing(name).read_bytes()

    def stat(self, name: str) -> StoredObject | None:
        with self._classified(f"look at {name}"):
            path = self._path(name)
            return _described(path, name) if path.is_file() else None

    def list(self, folder: str) -> Iterator[StoredObject]:
        with self._classified(f"list {folder or 'everything'}"):
            yield from self._below(self._path(folder) if folder else self.root)

    def copy(self, source: str, target: str) -> None:
        with self._classified(f"copy {source}"):
            existing, partial = self._existing(source), self._partial()
            try:
                with partial.open("xb") as stream:
                    clone_or_copy(existing, stream)
                self._settle(partial, target)
            finally:
                partial.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        with self._classified(f"delete {name}"):
            path = self._path(name)
            path.unlink(missing_ok=True)
            for parent in path.parents:
                if parent == self.root or not _removed_if_empty(parent):
                    break

    def local_path(self, name: str) -> Path | None:
        return self._path(name)

    def sweep_partial(self, before: datetime, *, dry_run: bool) -> Iterator[StoredObject]:
        with self._classified("sweep partial files"):
            for path in sorted((self.root / PARTIAL_FOLDER).glob("*")):
                found = _described(path, f"{PARTIAL_FOLDER}/{path.name}")
                if found.modified < before:
                    if not dry_run:
                        path.unlink(missing_ok=True)
                    yield found

    def _path(self, name: str) -> Path:
        if check_name(name).split("/")[0] == PARTIAL_FOLDER:
            raise StageFailure(FailureClass.INTERNAL, f"{name!r} is where the store keeps its half-written files")
        return self.root / name

    def _existing(self, name: str) -> Path:
        path = self._path(name)
        if not path.is_file():
            raise NotFoundInStoreError(f"{name} in {self.uri}")
        return path

    def _partial(self) -> Path:
        folder = self.root / PARTIAL_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        return folder / uuid.uuid4().hex

    def _settle(self, partial: Path, name: str, *, if_absent: bool = False) -> bool:
        """Give whole bytes their name, on disk before the name is; False if somebody was first."""
        _synced_read_only(partial)
        target = self._path(name)
        for attempt in range(_RENAME_ATTEMPTS):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                won = _claimed(partial, target) if if_absent else _renamed(partial, target)
                sync_folder(target.parent)
            except FileNotFoundError:
                if attempt == _RENAME_ATTEMPTS - 1:
                    raise
            else:
                return won
        return False

    def _below(self, folder: Path) -> Iterator[StoredObject]:
        for at, folders, files in os.walk(folder, onerror=_unless_gone):
            if Path(at) == self.root and PARTIAL_FOLDER in folders:
                folders.remove(PARTIAL_FOLDER)
            for file in files:
                path = Path(at) / file
                try:
                    yield _described(path, path.relative_to(self.root).as_posix())
                except FileNotFoundError:
                    continue  # removed while we looked

    @contextmanager
    def _classified(self, action: str) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise StageFailure(FailureClass.ACCESS_DENIED, f"not allowed to {action} in {self.uri}") from error
        except OSError as error:
            full = error.errno in DISK_FULL_ERRORS
            failure = FailureClass.STORE_FULL if full else FailureClass.STORE_UNAVAILABLE
            raise StageFailure(failure, f"cannot {action} in {self.uri}: {error.strerror or error}") from error


def _linked(source: Path, partial: Path) -> bool:
    try:
        os.link(source, partial)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    return True


def _claimed(partial: Path, target: Path) -> bool:
    """Name `partial` only if nothing has that name: link(2) fails where rename(2) would replace.

    Where the file system has no links, two writers at once may both pass; `Artifacts` reads back what is there.
    """
    try:
        os.link(partial, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            return False
        partial.replace(target)
    return True


def _renamed(partial: Path, target: Path) -> bool:
    partial.replace(target)
    return True


def _synced_read_only(partial: Path) -> None:
    """On disk, unwritable, and dated now: a linked file may be old, and gc counts from when it was stored."""
    with partial.open("rb") as stream:
        os.fchmod(stream.fileno(), _READ_ONLY)
        os.utime(stream.fileno())
        os.fsync(stream.fileno())


def _unless_gone(error: OSError) -> None:
    if error.errno != errno.ENOENT:
        raise error


def _removed_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def _described(path: Path, name: str) -> StoredObject:
    found = path.stat()
    return StoredObject(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
