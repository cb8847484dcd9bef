"""Whether what a job still makes fits on this machine's disks, said before its first stage and not hours later."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.needs import Space


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system: a folder on it, its size and what is free of it in bytes."""

    folder: Path
    total: int
    free: int


def needed(spaces: Sequence[Space], *, store_is_local: bool, one_disk: bool) -> tuple[int, int]:
    """Bytes that the store's disk and the scratch's disk must have free; all on the store's where they are one.

    What a stage makes is linked into a store on the same disk; from another disk it is copied, and a store that is no
    folder gives nothing without a copy either.
    """
    kept = sum(space.kept for space in spaces)
    if store_is_local and one_disk:
        return kept + max((space.passing for space in spaces), default=0), 0
    read = 0 if store_is_local else 1
    scratch = max((space.kept + space.passing + read * space.read for space in spaces), default=0)
    return (kept if store_is_local else 0), scratch


def refuse_small_disks(spaces: Sequence[Space], store: Path | None, scratch: Path) -> None:
    """Raises `DoesNotFit` where a disk is too small, `DiskFull` where too little of it is free.

    `store` is the store's folder, None for one that is no folder. What an earlier run of this job has left in `scratch`
    is emptied as its stages start, and counts as free.
    """
    works_in, left = disk_of(scratch), _bytes_below(scratch)
    works_in = Disk(works_in.folder, works_in.total, works_in.free + left)
    one = store is not None and disk_of(store).folder.stat().st_dev == works_in.folder.stat().st_dev
    in_store, in_scratch = needed(spaces, store_is_local=store is not None, one_disk=one)
    if store is not None:
        refuse_small_disk(in_store, works_in if one else disk_of(store), store)
    refuse_small_disk(in_scratch, works_in, scratch)


def refuse_small_disk(need: int, disk: Disk, folder: Path) -> None:
    """Compare one disk with what comes to lie on it in `folder`."""
    said = f"the job still needs about {need / 1e9:.2f} GB in {folder}"
    if need > disk.total:
        raise StageFailure(
            FailureClass.DOES_NOT_FIT,
            f"{said}, on a disk of {disk.total / 1e9:.2f} GB",
            "Name a folder on a larger disk: --store for the artifacts, TUNESMITH_CACHE for work under way.",
        )
    if need > disk.free:
        raise StageFailure(
            FailureClass.DISK_FULL,
            f"{said}, where {disk.free / 1e9:.2f} GB are free",
            "Free disk space ('tunesmith gc' removes what nothing needs), or name a folder on another disk: "
            "--store for the artifacts, TUNESMITH_CACHE for work under way.",
        )


def disk_of(folder: Path) -> Disk:
    """The disk that a folder lies on, or will lie on once it is made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    usage = shutil.disk_usage(there)
    return Disk(there, usage.total, usage.free)


def _bytes_below(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
