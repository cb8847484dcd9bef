"""What only a folder store does: reading in place, linking what is given, and its own failures."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.processes import in_processes, killed_at_write
from support.small_disk import mounted
from tunesmith.store import Artifacts, FolderStore
from tunesmith_api.failures import FailureClass, StageFailure

KEY = "a1" * 32


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    with mounted(tmp_path / "small", 4 << 20) as disk:
        yield disk.folder


def test_artifacts_are_read_in_place(tmp_path: Path, work: Path) -> None:
    """No byte is copied to scratch."""
    artifacts = Artifacts(FolderStore(tmp_path / "store"), "default")
    artifacts.commit("gguf", KEY, work)

    folder = artifacts.open("gguf", KEY, tmp_path / "scratch")

    assert folder.is_relative_to(tmp_path / "store")
    assert not (tmp_path / "scratch").exists()


def test_given_files_are_linked(tmp_path: Path, work: Path) -> None:
    """What the caller gives away is not copied: store and scratch share the inode, and nobody may write it."""
    artifacts = Artifacts(FolderStore(tmp_path / "store"), "default")
    os.utime(work / "weights.bin", (0, 0))
    artifacts.commit("gguf", KEY, work, give=True)

    stored = artifacts.open("gguf", KEY, tmp_path / "scratch") / "weights.bin"

    assert (work / "weights.bin").stat().st_ino == stored.stat().st_ino
    assert stored.stat().st_mode & 0o777 == 0o444
    assert datetime.now(UTC).timestamp() - stored.stat().st_mtime < 60, "gc counts from when it was stored"


def test_files_that_are_not_given_stay_apart(tmp_path: Path, work: Path) -> None:
    """Writing to the source afterwards does not reach the store."""
    artifacts = Artifacts(FolderStore(tmp_path / "store"), "default")
    artifacts.commit("gguf", KEY, work)
    (work / "weights.bin").write_bytes(b"changed")

    stored = artifacts.open("gguf", KEY, tmp_path / "scratch") / "weights.bin"

    assert bytes(range(256)) == stored.read_bytes()[:256]


def test_a_given_symbolic_link_is_copied(tmp_path: Path) -> None:
    """The file behind a link (a cache of models) belongs to somebody else and keeps its mode."""
    (tmp_path / "cache").write_bytes(b"weights")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "model").symlink_to(tmp_path / "cache")
    artifacts = Artifacts(FolderStore(tmp_path / "store"), "default")
    artifacts.commit("base", KEY, tmp_path / "work", give=True)

    stored = artifacts.open("base", KEY, tmp_path / "scratch") / "model"

    assert stored.read_bytes() == b"weights"
    assert not stored.is_symlink()
    assert (tmp_path / "cache").stat().st_ino != stored.stat().st_ino


def test_files_from_another_file_system_are_copied(small_disk: Path, tmp_path: Path) -> None:
    """Where no link can be, giving still works."""
    (small_disk / "in").write_bytes(b"x" * 1000)
    store = FolderStore(tmp_path / "store")

    entry = store.put_file(small_disk / "in", "file", give=True)
    store.get_file("file", tmp_path / "out", entry)

    assert (tmp_path / "out").read_bytes() == b"x" * 1000


def test_a_full_store(small_disk: Path, tmp_path: Path) -> None:
    """StoreFull; what was there stays whole, the half-written file is gone, and there is room again."""
    (tmp_path / "big").write_bytes(os.urandom(6 << 20))
    store = FolderStore(small_disk / "store")
    store.put_bytes(b"kept", "small")

    with pytest.raises(StageFailure) as failed:
        store.put_file(tmp_path / "big", "big")

    assert failed.value.failure is FailureClass.STORE_FULL
    assert [item.name for item in store.list("")] == ["small"]
    assert store.put_bytes(b"x" * (2 << 20), "fits")


def test_a_full_scratch(small_disk: Path, tmp_path: Path) -> None:
    """Fetching to a full disk is DiskFull, not a failure of the store, and says where."""
    (tmp_path / "big").write_bytes(os.urandom(6 << 20))
    store = FolderStore(tmp_path / "store")
    entry = store.put_file(tmp_path / "big", "big")

    with pytest.raises(StageFailure) as failed:
        store.get_file("big", small_disk / "big", entry)

    assert failed.value.failure is FailureClass.DISK_FULL
    assert str(small_disk) in failed.value.message
    assert list(small_disk.iterdir()) == []


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """A store below something that is no folder is unavailable."""
    (tmp_path / "file").touch()

    with pytest.raises(StageFailure) as failed:
        FolderStore(tmp_path / "file" / "store").put_bytes(b"", "x")

    assert failed.value.failure is FailureClass.STORE_UNAVAILABLE


def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    """Without the right to write, AccessDenied."""
    (tmp_path / "store").mkdir(mode=0o755)
    [failure] = in_processes(_put_as_nobody, [(tmp_path / "store",)])

    assert failure is FailureClass.ACCESS_DENIED


def _put_as_nobody(root: Path) -> FailureClass | None:
    if os.geteuid() == 0:
        os.chdir(root)
        os.setuid(65534)  # nobody
        root = Path()
    else:
        root.chmod(0o555)
    try:
        FolderStore(root).put_bytes(b"", "x")
    except StageFailure as error:
        return error.failure
    return None


def test_what_a_killed_writer_left_is_swept_when_old(tmp_path: Path) -> None:
    """Half-written files are never listed, stay while they may be somebody's, and go after."""
    (tmp_path / "in").write_bytes(b"x" * 1000)
    store = FolderStore(tmp_path / "store")
    number = 0
    while killed_at_write(number, store.put_file, tmp_path / "in", f"file{number}"):
        number += 1
    now = datetime.now(UTC)

    assert all(item.size == 1000 for item in store.list(""))
    assert list(store.sweep_partial(now - timedelta(days=7), dry_run=False)) == []
    listed = list(store.sweep_partial(now + timedelta(days=1), dry_run=True))
    assert listed
    assert listed == list(store.sweep_partial(now + timedelta(days=1), dry_run=False))
    assert list(store.sweep_partial(now + timedelta(days=1), dry_run=True)) == []


def test_removing_empties_folders(tmp_path: Path) -> None:
    """Folders that became empty go, others stay."""
    store = FolderStore(tmp_path / "store")
    store.put_bytes(b"", "a/b/c")
    store.put_bytes(b"", "a/d")

    store.delete("a/b/c")

    assert not (tmp_path / "store" / "a" / "b").exists()
    assert (tmp_path / "store" / "a" / "d").exists()
