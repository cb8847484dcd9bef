"""Files become digests: a sha256 of each, remembered by inode, size and mtime, and one over all of them."""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tunesmith.cache import cache_dir
from tunesmith_api.keys import canonical_json
from tunesmith_api.resolved import ResolvedFile

# The longest safetensors header (safetensors, src/tensor.rs: MAX_HEADER_SIZE).
_MAX_HEADER_BYTES = 100_000_000


def combined(files: Iterable[ResolvedFile]) -> str:
    """``sha256:`` over the sorted (path, size, digest) of all files: the identity of a source of several files."""
    listing = sorted((file.path, file.size, file.digest) for file in files)
    return "sha256:" + hashlib.sha256(canonical_json(listing)).hexdigest()


def file_digest(path: Path) -> str:
    """``sha256:`` of a file's bytes; a file that has not changed since it was hashed last is not read again."""
    stat = path.stat()
    identity = f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}"
    remembered = _index_file(identity)
    try:
        return str(json.loads(remembered.read_text())["digest"])
    except (OSError, ValueError, KeyError):
        pass
    with path.open("rb") as file:
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    # A cache that is full or may not be written costs time, and nothing else.
    with suppress(OSError):
        remembered.parent.mkdir(parents=True, exist_ok=True)
        partial = remembered.with_name(f"{remembered.name}.{os.getpid()}")
        partial.write_text(json.dumps({"digest": digest}))
        partial.replace(remembered)
    return digest


def safetensors_header(path: Path) -> bytes:
    """The JSON text at the head of a safetensors file, which its length (8 bytes, little endian) precedes."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return file.read(length) if length <= _MAX_HEADER_BYTES else b""


def _index_file(identity: str) -> Path:
    name = hashlib.sha256(identity.encode()).hexdigest()
    return cache_dir() / "digests" / name[:2] / name
