"""Artifacts are whole or absent, verified when read, and belong to the first writer."""

import os
import shutil
from pathlib import Path

import pytest

from support.processes import in_processes, killed_at_write
from tunesmith.store import Artifacts, Manifest
from tunesmith.store.manifests import manifest_bytes
from tunesmith_api.failures import FailureClass, StageFailure

from .conftest import Place

KEY = "a1" * 32


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def corrupt(artifacts: Artifacts, scratch: Path) -> StageFailure:
    with pytest.raises(StageFailure) as failed:
        artifacts.open("gguf", KEY, scratch)
    assert failed.value.failure is FailureClass.ARTIFACT_CORRUPT
    return failed.value


def test_an_artifact_comes_back_whole(place: Place, work: Path, tmp_path: Path) -> None:
    """All files with their paths, and a manifest that says what they were made of."""
    artifacts = place.artifacts()
    source = artifacts.commit("dataset", "d" * 64, work)

    manifest = artifacts.commit("gguf", KEY, work, inputs=[source], made={"llama.cpp": "b1"}, meta={"rows": 3})
    folder = place.artifacts().open("gguf", KEY, tmp_path / "scratch")

    assert contents(work) == contents(folder)
    assert manifest == place.artifacts().find("gguf", KEY)
    assert [source.reference()] == list(manifest.inputs)
    assert (manifest.made, manifest.meta) == ({"llama.cpp": "b1"}, {"rows": 3})
    assert sum(map(len, contents(work).values())) == manifest.size


def test_an_artifact_without_files(place: Place, tmp_path: Path) -> None:
    """The manifest alone is the artifact, and opens as an empty folder."""
    (tmp_path / "work").mkdir()
    place.artifacts().commit("logits", KEY, tmp_path / "work", meta={"skipped": True})

    manifest = place.artifacts().expect("logits", KEY)

    assert (manifest.files, manifest.meta) == ((), {"skipped": True})


def test_absent(place: Place, tmp_path: Path) -> None:
    """What is not there is None to who asks and names its kind and key to who needs it."""
    artifacts = place.artifacts()

    assert artifacts.find("gguf", KEY) is None
    assert corrupt(artifacts, tmp_path / "scratch").artifact == ("gguf", KEY)


def test_the_first_writer_stays(place: Place, work: Path) -> None:
    """A second commit of the same key answers with what is there; with `replace` it takes over."""
    artifacts = place.artifacts()
    first = artifacts.commit("gguf", KEY, work)
    (work / "weights.bin").write_bytes(b"other")

    assert first == artifacts.commit("gguf", KEY, work)
    replaced = artifacts.commit("gguf", KEY, work, replace=True)
    assert first.attempt != replaced.attempt
    assert replaced == artifacts.find("gguf", KEY)


def test_writers_at_once_agree(place: Place, work: Path, tmp_path: Path) -> None:
    """Four processes commit different content under one key: all are told of the same whole artifact."""
    folders = [tmp_path / f"work{number}" for number in range(4)]
    for number, folder in enumerate(folders):
        shutil.copytree(work, folder)
        (folder / "weights.bin").write_bytes(bytes([number]) * 500_000)

    manifests = in_processes(_commit, [(place, folder) for folder in folders])

    assert len({manifest.attempt for manifest in manifests}) == 1
    found = contents(place.artifacts().open("gguf", KEY, tmp_path / "scratch"))
    assert found in [contents(folder) for folder in folders]


def _commit(place: Place, folder: Path) -> Manifest:
    return place.artifacts().commit("gguf", KEY, folder)


def test_killed_at_every_write(place: Place, work: Path, tmp_path: Path) -> None:
    """Whenever the writer dies, the artifact is whole or absent, and the next writer succeeds (P73)."""
    (work / "weights.bin").write_bytes(os.urandom((8 << 20) + 1))
    expected = contents(work)
    number, absent = 0, 0
    while killed_at_write(number, _commit_as, place, work, f"{number:064}"):
        artifacts = place.artifacts()
        if artifacts.find("gguf", f"{number:064}") is None:
            absent += 1
            artifacts.commit("gguf", f"{number:064}", work)
        folder = artifacts.open("gguf", f"{number:064}", tmp_path / "scratch")
        assert expected == contents(folder)
        shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
        number += 1

    # Three files and a manifest, and at least one write for each.
    assert number >= 4
    assert absent >= 3


def _commit_as(place: Place, folder: Path, key: str) -> Manifest:
    return place.artifacts().commit("gguf", key, folder)


@pytest.mark.parametrize("damage", [b"Gr\xc3\xbc\xc3\x9fE", b"Gr", None])
def test_a_damaged_file_is_found_and_made_again(place: Place, work: Path, tmp_path: Path, damage: bytes | None) -> None:
    """A flipped bit, a short file or a lost one names the artifact; a commit with `replace` cures it."""
    artifacts = place.artifacts()
    manifest = artifacts.commit("gguf", KEY, work)
    name = artifacts.attempt_name(manifest, "deep/er/umlaut ä & +.txt")
    if damage is None:
        place.remove(name)
    else:
        place.overwrite(name, damage)

    assert corrupt(artifacts, tmp_path / "scratch").artifact == ("gguf", KEY)

    artifacts.commit("gguf", KEY, work, replace=True)
    assert contents(work) == contents(artifacts.open("gguf", KEY, tmp_path / "scratch"))


@pytest.mark.parametrize("damage", ["cut", "empty", "a figure changed", "no JSON"])
def test_a_damaged_manifest_is_found_and_made_again(place: Place, work: Path, tmp_path: Path, damage: str) -> None:
    """It is neither an artifact nor absent: only `replace` writes over it."""
    artifacts = place.artifacts()
    artifacts.commit("gguf", KEY, work, meta={"rows": 311})
    name = f"default/artifacts/gguf/{KEY}/manifest.json"
    data = artifacts.store.read_bytes(name)
    damaged = {"cut": data[:-3], "empty": b"", "a figure changed": data.replace(b"311", b"312"), "no JSON": b"\xff"}
    place.overwrite(name, damaged[damage])

    assert corrupt(artifacts, tmp_path / "scratch").artifact == ("gguf", KEY)
    with pytest.raises(StageFailure):
        artifacts.commit("gguf", KEY, work)

    artifacts.commit("gguf", KEY, work, replace=True)
    assert contents(work) == contents(artifacts.open("gguf", KEY, tmp_path / "scratch"))


def test_a_manifest_cannot_name_files_outside(place: Place, work: Path, tmp_path: Path) -> None:
    """A hostile manifest whose path climbs out of the artifact is refused before anything is fetched."""
    artifacts = place.artifacts()
    manifest = artifacts.commit("gguf", KEY, work)
    outside = manifest.files[0].model_copy(update={"path": "../../escaped"})
    hostile = manifest_bytes(manifest.model_copy(update={"files": (outside,)}))
    place.overwrite(f"default/artifacts/gguf/{KEY}/manifest.json", hostile)

    corrupt(artifacts, tmp_path / "scratch")


def test_a_manifest_under_another_key_is_refused(place: Place, work: Path, tmp_path: Path) -> None:
    """Copied from elsewhere it would promise content that nobody made for this key."""
    artifacts = place.artifacts()
    artifacts.commit("gguf", KEY, work)
    artifacts.commit("gguf", "b" * 64, work)
    other = artifacts.store.read_bytes(f"default/artifacts/gguf/{'b' * 64}/manifest.json")
    place.overwrite(f"default/artifacts/gguf/{KEY}/manifest.json", other)

    corrupt(artifacts, tmp_path / "scratch")


def test_a_file_is_hashed_again_only_if_it_changed(place: Place, work: Path, tmp_path: Path) -> None:
    """Other bytes of the same size under the same inode and time go unseen; a new time alone makes them seen."""
    artifacts = place.artifacts()
    artifacts.commit("gguf", KEY, work)
    file = artifacts.open("gguf", KEY, tmp_path / "scratch") / "weights.bin"
    before = file.stat()
    file.chmod(0o644)
    file.write_bytes(b"x" * before.st_size)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    place.artifacts().open("gguf", KEY, tmp_path / "scratch")
    assert file.read_bytes()[:3] == b"xxx"

    file.touch()
    if place.server is None:
        corrupt(place.artifacts(), tmp_path / "scratch")
    else:
        place.artifacts().open("gguf", KEY, tmp_path / "scratch")
        assert contents(work)["weights.bin"] == file.read_bytes()


def test_namespaces_are_apart(place: Place, work: Path) -> None:
    """The same key in another namespace is another artifact; a namespace that is none is refused."""
    place.artifacts().commit("gguf", KEY, work)

    assert Artifacts(place.open(), "team-b").find("gguf", KEY) is None
    for wrong in ("", "..", "a/b", "Team", "-a"):
        with pytest.raises(StageFailure):
            Artifacts(place.open(), wrong)
