"""The cache loses working folders and sources that nobody has touched for a week, and nothing that a run holds."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tunesmith.local.scratch import sweep_cache, working_in

NOW = datetime.now(UTC)


def a_folder(path: Path, days: float) -> Path:
    """A folder with a file of 1,000 bytes, all of it as old as said."""
    (path / "convert").mkdir(parents=True)
    (path / "convert" / "weights").write_bytes(bytes(1000))
    age(path, days)
    return path


def age(path: Path, days: float) -> None:
    then = (NOW - timedelta(days=days)).timestamp()
    for item in (*path.rglob("*"), path):
        os.utime(item, (then, then), follow_symlinks=False)


def test_old_folders_go_and_young_ones_stay(tmp_path: Path) -> None:
    """Scratch and sources alike; a dry run only says so; nothing else in the cache is touched."""
    old = [a_folder(tmp_path / "scratch" / "a", 8), a_folder(tmp_path / "sources" / "b", 8)]
    kept = [a_folder(tmp_path / "scratch" / "c", 6), a_folder(tmp_path / "llama.cpp" / "d", 80)]

    listed = sweep_cache(tmp_path, NOW, dry_run=True)
    assert [(item.path, item.bytes) for item in listed] == [(path, 1000) for path in old]
    assert all(path.exists() for path in old)
    sweep_cache(tmp_path, NOW, dry_run=False)
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in kept)


def test_what_a_run_holds_stays_and_so_do_sources_meanwhile(tmp_path: Path) -> None:
    """However long it takes; once it is over, both may go."""
    held = a_folder(tmp_path / "scratch" / "a", 8)
    source = a_folder(tmp_path / "sources" / "b", 8)

    def swept() -> list[Path]:
        age(held, 8)
        return [item.path for item in sweep_cache(tmp_path, NOW, dry_run=True)]

    with working_in(held):
        assert swept() == []
    assert swept() == [held, source]


def test_an_empty_working_folder_goes_with_its_run(tmp_path: Path) -> None:
    """A finished job leaves nothing in the cache; what a stage left is kept for the next run."""
    done, failed = tmp_path / "done", a_folder(tmp_path / "failed", 0)
    with working_in(done):
        (done / "prepare").mkdir()
    with working_in(failed):
        pass

    assert not done.exists()
    assert (failed / "convert" / "weights").exists()
