"""What was fetched is held against what was pinned: a source that has changed since is never taken for the old one."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tunesmith.resolve.digests import file_digest
from tunesmith.resolve.failures import changed
from tunesmith.resolve.listing import Access, list_source
from tunesmith.resolve.uri import Scheme, Source
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ResolvedFile

_CHUNK_BYTES = 1 << 20


def check_pinned(source: Source, files: Sequence[ResolvedFile], folder: Path, access: Access) -> None:
    """Raise `SourceAbsent` or `SourceUnavailable` unless `folder` holds the pinned files of a model, byte for byte.

    An S3 service tells versions by time and not by content: it is asked again, after the fetch.
    """
    for file in files:
        path = folder / file.path
        if not path.is_file():
            message = f"{source.told}: {file.path} did not arrive"
            hint = "Check that it is still there; the same command goes on after the last whole file."
            raise StageFailure(FailureClass.SOURCE_UNAVAILABLE, message, hint)
        if path.stat().st_size != file.size or not _same(path, file.digest):
            raise changed(source.told, file.path)
    if source.scheme is Scheme.S3:
        now = {file.path: file.digest for file in list_source(source, "model", None, access).files}
        different = [file.path for file in files if now.get(file.path) != file.digest]
        if different:
            raise changed(source.told, different[0])


def _same(path: Path, digest: str) -> bool:
    """Whether a file's bytes have a digest; True for one that is not of bytes (``modified:``)."""
    if digest.startswith("sha256:"):
        return file_digest(path) == digest
    if digest.startswith("git:"):
        return _git_blob(path) == digest
    return True


def _git_blob(path: Path) -> str:
    """Git's id of a file's content (gitformat-pack(5): the header "blob SIZE" and a NUL come first)."""
    found = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
    return f"git:{found.hexdigest()}"
