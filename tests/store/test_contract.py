"""What every store promises, on a folder, on MinIO and on SeaweedFS."""

import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.processes import in_processes
from tunesmith.store import FileEntry, NotFoundInStoreError
from tunesmith.store.folders import in_parallel
from tunesmith_api.failures import FailureClass, StageFailure

from .conftest import Place

MANY_PARTS = 20 << 20


def test_a_file_comes_back_as_it_went_in(place: Place, tmp_path: Path) -> None:
    """put_file tells sha256 and size of what it sent, and get_file brings exactly that."""
    data = os.urandom(100_000)
    (tmp_path / "in").write_bytes(data)
    store = place.open()

    entry = store.put_file(tmp_path / "in", "a/b c/ä+&.bin")
    store.get_file("a/b c/ä+&.bin", tmp_path / "sub" / "out", entry)

    assert FileEntry(path="in", sha256=hashlib.sha256(data).hexdigest(), size=100_000) == entry
    assert data == (tmp_path / "sub" / "out").read_bytes()
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["out"]


@pytest.mark.parametrize("size", [0, 8 << 20, MANY_PARTS + 1])
def test_a_file_of_any_size(place: Place, tmp_path: Path, size: int) -> None:
    """Empty, of exactly one part, and of several parts that travel in parallel."""
    block = os.urandom(1 << 20)
    data = (block * (size // len(block) + 1))[:size]
    (tmp_path / "in").write_bytes(data)
    store = place.open()

    entry = store.put_file(tmp_path / "in", "file")
    store.get_file("file", tmp_path / "out", entry)

    assert hashlib.sha256(data).hexdigest() == entry.sha256
    assert data == (tmp_path / "out").read_bytes()


def test_a_file_is_read_once(place: Place, tmp_path: Path) -> None:
    """The digest is made of the bytes on their way: nothing opens the source a second time."""
    source = tmp_path / "in"
    source.write_bytes(os.urandom(MANY_PARTS))

    [opened] = in_processes(_opens_of_source, [(place, source)])

    assert opened == 1


def _opens_of_source(place: Place, source: Path) -> int:
    import sys

    opened: list[str] = []
    store = place.open()
    sys.addaudithook(lambda event, args: opened.append(event) if event == "open" and args[0] == str(source) else None)
    store.put_file(source, "file")
    return len(opened)


def test_small_content(place: Place) -> None:
    """put_bytes replaces, read_bytes reads, and an absent object is told apart from a failure."""
    store = place.open()

    assert store.put_bytes(b"one", "x/y")
    assert store.put_bytes(b"two", "x/y")
    assert store.read_bytes("x/y") == b"two"
    with pytest.raises(NotFoundInStoreError):
        store.read_bytes("x/z")


def test_if_absent_never_replaces(place: Place) -> None:
    """The first content stays, and the second writer is told."""
    store = place.open()

    assert [store.put_bytes(data, "once", if_absent=True) for data in (b"first", b"second")] == [True, False]
    assert store.read_bytes("once") == b"first"


def test_of_many_processes_one_creates(place: Place) -> None:
    """MinIO and SeaweedFS honour If-None-Match, a folder link(2): exactly one of eight writers at once wins."""
    won = in_processes(_create, [(place, f"writer {number}".encode()) for number in range(8)])

    assert sum(won) == 1
    assert f"writer {won.index(True)}".encode() == place.open().read_bytes("race")


def _create(place: Place, data: bytes) -> bool:
    return place.open().put_bytes(data, "race", if_absent=True)


def test_stat_and_list(place: Place) -> None:
    """A listing has every object below the folder with size and time in UTC, and no neighbour of similar name."""
    store = place.open()
    for name in ("ns/a/1", "ns/a/b/22", "ns/ab/3", "other/4"):
        store.put_bytes(name.encode(), name)

    found = {item.name: item for item in store.list("ns/a")}

    assert {name: item.size for name, item in found.items()} == {"ns/a/1": 6, "ns/a/b/22": 9}
    assert abs(datetime.now(UTC) - found["ns/a/1"].modified) < timedelta(minutes=1)
    assert {"ns/a/1", "ns/a/b/22", "ns/ab/3", "other/4"} == {item.name for item in store.list("")}
    assert list(store.list("nothing")) == []
    described = store.stat("ns/a/b/22")
    assert described is not None
    assert (described.name, described.size) == ("ns/a/b/22", 9)
    assert store.stat("ns/a/b") is None


def test_more_objects_than_a_listing_has_on_a_page(place: Place) -> None:
    """S3 lists at most 1,000 objects at a time; all of them are found."""
    store = place.open()
    in_parallel(lambda number: store.put_bytes(b"", f"many/{number:04}"), range(1001))

    assert sum(1 for _ in store.list("many")) == 1001


def test_copy_and_delete(place: Place, tmp_path: Path) -> None:
    """A copy stays when its source goes; deleting what is not there does nothing."""
    (tmp_path / "in").write_bytes(os.urandom(MANY_PARTS))
    store = place.open()
    entry = store.put_file(tmp_path / "in", "from/file")

    store.copy("from/file", "to/file")
    store.delete("from/file")
    store.delete("from/file")
    store.get_file("to/file", tmp_path / "out", entry)

    assert store.stat("from/file") is None
    assert [item.name for item in store.list("")] == ["to/file"]
    with pytest.raises(NotFoundInStoreError):
        store.copy("from/file", "to/other")


@pytest.mark.parametrize("damage", [b"fleX", b"fle", b"flex!"])
def test_a_file_that_differs_does_not_appear(place: Place, tmp_path: Path, damage: bytes) -> None:
    """Flipped bits, bytes too few and bytes too many are found while reading, and nothing is left behind."""
    (tmp_path / "in").write_bytes(b"flex")
    store = place.open()
    entry = store.put_file(tmp_path / "in", "file")
    place.overwrite("file", damage)

    with pytest.raises(StageFailure) as failed:
        store.get_file("file", tmp_path / "out" / "file", entry)

    assert failed.value.failure is FailureClass.ARTIFACT_CORRUPT
    assert list((tmp_path / "out").iterdir()) == []


def test_fetching_what_is_absent_leaves_nothing(place: Place, tmp_path: Path) -> None:
    """Neither the target nor a half of it."""
    with pytest.raises(NotFoundInStoreError):
        place.open().get_file("nothing", tmp_path / "out" / "file")

    assert list(tmp_path.glob("out/*")) == []


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\\b", "a\nb", "x" * 1025])
def test_a_name_cannot_leave_the_store(place: Place, name: str) -> None:
    """Names are relative, have no empty or dotted part and fit into S3."""
    store = place.open()

    with pytest.raises(StageFailure):
        store.put_bytes(b"", name)
    with pytest.raises(StageFailure):
        store.read_bytes(name)
