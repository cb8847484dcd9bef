"""Local files, whole or absent: streams and clones go in, hashed files that appear at once come out."""

import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tunesmith.store.protocol import CHUNK_BYTES, FileEntry, check_content
from tunesmith_api.failures import FailureClass, StageFailure

# _IOW(0x94, 9, int) of linux/fs.h: share the blocks of another file (btrfs, XFS).
_FICLONE = 0x40049409

DISK_FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})


def sha256_of(path: Path) -> tuple[str, int]:
    """The sha256 in hex and the number of bytes of a file, in one read."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return digest.hexdigest(), stream.tell()


def copy_hashed(source: BinaryIO, target: BinaryIO) -> tuple[str, int]:
    """Copy to the end of `source`; the sha256 in hex and the number of bytes of what passed."""
    digest, size = hashlib.sha256(), 0
    while block := source.read(CHUNK_BYTES):
        digest.update(block)
        target.write(block)
        size += len(block)
    return digest.hexdigest(), size


def clone(source: BinaryIO, target: BinaryIO) -> bool:
    """Let an empty `target` share the blocks of `source`; False where the file system cannot."""
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True


def clone_or_copy(source: Path, target: BinaryIO) -> tuple[str, int]:
    """Fill an empty `target` from a file, sharing blocks where possible; sha256 and size in one read."""
    with source.open("rb") as stream:
        if not clone(stream, target):
            return copy_hashed(stream, target)
    return sha256_of(Path(target.name))


def put_copy(source: Path, target: Path, expected: FileEntry) -> None:
    """Copy a local file to where a user wants it, verified on the way (`ArtifactCorrupt`, `DiskFull`)."""
    with disk_full_is_classified(target), appearing(target) as stream:
        sha256, size = clone_or_copy(source, stream)
        check_content(expected, sha256, size, str(source))


@contextmanager
def appearing(target: Path, partial: Path | None = None) -> Iterator[BinaryIO]:
    """A stream whose content becomes `target` only when the block ends well, safe against a power cut.

    `partial` is where the bytes wait, on the same file system (default: beside the target).
    """
    partial = partial or target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power cut (fsync(2): the folder's own entry needs its own call)."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_full_is_classified(target: Path) -> Iterator[None]:
    """Turn 'no space left' on this machine's disk into `DiskFull`."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL_ERRORS:
            raise
        raise StageFailure(FailureClass.DISK_FULL, f"no space left for {target}: {_free(target)}") from error


def _free(target: Path) -> str:
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    return f"{shutil.disk_usage(folder).free >> 20} MiB are free in {folder}"
