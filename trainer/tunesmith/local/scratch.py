"""Working folders in the cache: held by the run that works there, swept once nobody has touched them for a week."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tunesmith.store.reachable import UNREFERENCED_FOR

_LOCK = "lock"
SCRATCH, SOURCES = "scratch", "sources"


@dataclass(frozen=True, slots=True)
class Left:
    """A folder that gc removes from the cache, with the bytes that it holds."""

    path: Path
    bytes: int


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Hold a scratch folder against gc; an empty one goes at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / _LOCK
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        yield
    if not any(path.name != _LOCK and any(path.iterdir()) for path in folder.iterdir() if path.is_dir()):
        shutil.rmtree(folder, ignore_errors=True)


def sweep_cache(cache: Path, now: datetime, *, dry_run: bool) -> tuple[Left, ...]:
    """Remove (or only name) scratch folders and fetched sources that are a week old and that no run holds.

    Sources are read by whichever run is under way: they stay while there is one.
    """
    scratch = [path for path in _folders(cache / SCRATCH) if not _is_held(path)]
    busy = len(scratch) < len(_folders(cache / SCRATCH))
    candidates = [*scratch, *([] if busy else _folders(cache / SOURCES))]
    left = tuple(Left(path, _bytes(path)) for path in candidates if now - _touched(path) > UNREFERENCED_FOR)
    for item in () if dry_run else left:
        shutil.rmtree(item.path, ignore_errors=True)
    return left


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _is_held(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _touched(folder: Path) -> datetime:
    newest = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    return datetime.fromtimestamp(newest, UTC)


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
