"""Which local files were found right before: a file is hashed again only if its inode, size or time changed."""

import contextlib
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from tunesmith.store.local_files import sha256_of
from tunesmith.store.protocol import FileEntry, check_content
from tunesmith_api.failures import StageFailure

INDEX_NAME = ".verified.jsonl"


@dataclass(frozen=True, slots=True)
class _Seen:
    inode: int
    size: int
    mtime_ns: int
    sha256: str


class VerifiedFiles:
    """An index of verified files below `base`, in one file (default: there) that grows by whole lines.

    Safe for concurrent processes: lines are appended in one write each, a broken or lost line only costs a hash.
    Where the index cannot be written (a store that is read-only for us), every file is hashed.
    """

    def __init__(self, base: Path, index: Path | None = None) -> None:
        self.base = base
        self._index = index or base / INDEX_NAME
        self._read_to = 0
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}

    def check(self, path: Path, entry: FileEntry) -> None:
        """Raise `ArtifactCorrupt` unless the file holds what the entry says; FileNotFoundError if there is none."""
        now = path.stat()
        expected = _Seen(now.st_ino, now.st_size, now.st_mtime_ns, entry.sha256)
        with self._lock:
            self._catch_up()
            seen = self._seen.get(self._name(path))
        if now.st_size == entry.size and seen == expected:
            return
        sha256, size = sha256_of(path)
        check_content(entry, sha256, size, str(path))
        self.add(path, entry)

    def holds(self, path: Path, entry: FileEntry) -> bool:
        """Whether the file is there and holds what the entry says."""
        try:
            self.check(path, entry)
        except (FileNotFoundError, StageFailure):
            return False
        return True

    def compact(self) -> None:
        """Forget files that are gone; a line that another process adds meanwhile may be lost and costs a hash."""
        with self._lock, contextlib.suppress(OSError):
            self._catch_up()
            self._seen = {name: seen for name, seen in self._seen.items() if (self.base / name).exists()}
            if not self._index.exists():
                return
            lines = [_line(name, seen) for name, seen in self._seen.items()]
            partial = self._index.with_name(f"{self._index.name}.{os.getpid()}")
            partial.write_text("".join(lines))
            partial.replace(self._index)
            self._read_to = 0

    def add(self, path: Path, entry: FileEntry) -> None:
        """Remember that a file was just found to hold what the entry says."""
        now = path.stat()
        seen = _Seen(now.st_ino, now.st_size, now.st_mtime_ns, entry.sha256)
        with contextlib.suppress(OSError):
            self._append(_line(self._name(path), seen))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.base).as_posix()

    def _append(self, line: str) -> None:
        self._index.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._index, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def _catch_up(self) -> None:
        try:
            with self._index.open("rb") as stream:
                if os.fstat(stream.fileno()).st_size < self._read_to:
                    self._read_to = 0
                stream.seek(self._read_to)
                lines = stream.read()
        except OSError:
            return
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError, TypeError):
                name, inode, size, mtime_ns, sha256 = json.loads(line)
                self._seen[name] = _Seen(inode, size, mtime_ns, sha256)


def _line(name: str, seen: _Seen) -> str:
    return json.dumps([name, seen.inode, seen.size, seen.mtime_ns, seen.sha256]) + "\n"
