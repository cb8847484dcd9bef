"""What lies beside the artifacts: checkpoints, logs, runs and published folders."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.processes import killed_at_write
from tunesmith.store.checkpoints import Checkpoints
from tunesmith.store.logs import list_logs, put_log
from tunesmith.store.published import Source, export, latest, publish
from tunesmith.store.runs import new_run, read_runs, refresh_run
from tunesmith_api.failures import FailureClass, StageFailure

from .conftest import Place

KEY = "a1" * 32


def checkpoints_of(place: Place) -> Checkpoints:
    return Checkpoints(place.open(), "default", KEY)


def a_checkpoint(folder: Path, step: int) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(f"step {step}".encode() * 100)
    (folder / "trainer_state.json").write_text(str(step))
    return folder


def test_the_newest_two_checkpoints_are_kept(place: Place, tmp_path: Path) -> None:
    """By number, not by name; the newest is what a training goes on from; none once the result is stored."""
    checkpoints = checkpoints_of(place)
    for step in (8, 9, 10):
        checkpoints.save(step, a_checkpoint(tmp_path / "work", step), {"epoch": step / 10})

    newest = checkpoints.fetch_newest(tmp_path / "back")

    assert checkpoints.steps() == [10, 9]
    assert newest is not None
    assert (newest[0], newest[1].meta) == (10, {"epoch": 1.0})
    assert (tmp_path / "back" / "10" / "trainer_state.json").read_text() == "10"
    assert sum(1 for _ in checkpoints.store.list("default/checkpoints")) == 6
    checkpoints.drop_all()
    assert list(checkpoints.store.list("default/checkpoints")) == []
    assert checkpoints.fetch_newest(tmp_path / "none") is None


def test_a_damaged_checkpoint_is_passed_over(place: Place, tmp_path: Path) -> None:
    """The one before it is taken."""
    checkpoints = checkpoints_of(place)
    checkpoints.save(1, a_checkpoint(tmp_path / "work", 1))
    manifest = checkpoints.save(2, a_checkpoint(tmp_path / "work", 2))
    place.overwrite(f"default/checkpoints/{KEY}/2/{manifest.attempt}/trainer_state.json", b"3")

    newest = checkpoints.fetch_newest(tmp_path / "back")

    assert newest is not None
    assert newest[0] == 1


def test_saving_a_step_again(place: Place, tmp_path: Path) -> None:
    """The later content holds, whole."""
    checkpoints = checkpoints_of(place)
    checkpoints.save(5, a_checkpoint(tmp_path / "work", 5))
    checkpoints.save(5, a_checkpoint(tmp_path / "work", 55))

    checkpoints.fetch(5, tmp_path / "back")

    assert (tmp_path / "back" / "trainer_state.json").read_text() == "55"


def test_a_training_killed_while_it_saves(place: Place, tmp_path: Path) -> None:
    """At every write: what is listed can be fetched, and the checkpoint before is not lost."""
    checkpoints = checkpoints_of(place)
    checkpoints.save(0, a_checkpoint(tmp_path / "work", 0))
    number = 0
    while killed_at_write(number, _save, place, a_checkpoint(tmp_path / "work", number + 1), number + 1):
        newest = checkpoints.fetch_newest(tmp_path / "back")
        assert newest is not None
        assert newest[0] == checkpoints.steps()[0]
        number += 1
    assert number >= 3


def _save(place: Place, folder: Path, step: int) -> None:
    checkpoints_of(place).save(step, folder)


def test_logs(place: Place, tmp_path: Path) -> None:
    """A log of each attempt; of an endless one the end."""
    log, store = tmp_path / "log", place.open()
    log.write_text("first\n")
    first = put_log(store, "default", ("train", KEY, "one"), log)
    log.write_bytes(b"x" * (16 << 20) + b"the end")
    second = put_log(store, "default", ("train", KEY, "two"), log)

    assert {first, second} == set(list_logs(store, "default", "train", KEY))
    assert f"default/logs/train/{KEY}/one.log" == first
    assert (
        store.read_bytes(first),
        store.read_bytes(second)[-7:],
        len(store.read_bytes(second)),
    ) == (b"first\n", b"the end", 16 << 20)


def test_a_run_collects_its_keys(place: Place) -> None:
    """Every stage adds what it knows and makes the record young again; a broken record is written anew."""
    store, then = place.open(), datetime(2026, 11, 1, tzinfo=UTC)
    refresh_run(store, "default", new_run("uid", "bot", [("base", "a"), ("gguf", "b")], then))
    refresh_run(store, "default", new_run("uid", "bot", [("gguf", "b"), ("imatrix", "c")], then + timedelta(days=2)))

    [run] = read_runs(store, "default").values()

    assert [(item.kind, item.key) for item in run.keys] == [("base", "a"), ("gguf", "b"), ("imatrix", "c")]
    assert then + timedelta(days=2) == run.refreshed
    place.overwrite("default/runs/uid.json", b"{")
    assert read_runs(store, "default") == {}
    assert len(refresh_run(store, "default", new_run("uid", "bot", [("base", "a")], then)).keys) == 1


def test_a_published_folder(place: Place, work: Path, tmp_path: Path) -> None:
    """Files of several artifacts under names of their own, and latest.json says which are the newest."""
    artifacts = place.artifacts()
    manifest = artifacts.commit("quantized", KEY, work)
    files = {"bot-Q8_0.gguf": Source(manifest, "weights.bin"), "sub/README.md": Source(manifest, "empty")}

    published = publish(artifacts, "bot", "b" * 64, files)
    store = artifacts.store
    written = {item.name: item.modified for item in store.list("default/published")}
    again = publish(artifacts, "bot", "b" * 64, files)
    store.get_file(f"default/published/bot/{'b' * 12}/bot-Q8_0.gguf", tmp_path / "out", published.files[0])

    assert published == again == latest(artifacts, "bot")
    assert {
        "default/published/bot/latest.json",
        f"default/published/bot/{'b' * 12}/bot-Q8_0.gguf",
        f"default/published/bot/{'b' * 12}/sub/README.md",
    } == set(written)
    if place.server is None:
        after = {item.name: item.modified for item in store.list("default/published")}
        assert [name for name in written if written[name] != after[name]] == ["default/published/bot/latest.json"]
    assert latest(artifacts, "other") is None


def test_publishing_what_is_lost(place: Place, work: Path) -> None:
    """The artifact is named, and latest.json, which comes last, is not written (P73)."""
    artifacts = place.artifacts()
    manifest = artifacts.commit("quantized", KEY, work)
    place.remove(artifacts.attempt_name(manifest, "weights.bin"))

    with pytest.raises(StageFailure) as failed:
        publish(artifacts, "bot", "b" * 64, {"x": Source(manifest, "weights.bin")})

    assert (failed.value.failure, failed.value.artifact) == (FailureClass.ARTIFACT_CORRUPT, ("quantized", KEY))
    assert latest(artifacts, "bot") is None


def test_a_users_folder(place: Place, work: Path, tmp_path: Path) -> None:
    """Copies that the user may write; what is right stays untouched, what the user broke is brought again."""
    artifacts = place.artifacts()
    manifest = artifacts.commit("quantized", KEY, work)
    files = {"bot.gguf": Source(manifest, "weights.bin"), "a/b.txt": Source(manifest, "deep/er/umlaut ä & +.txt")}
    export(artifacts, files, tmp_path / "out")
    before = (tmp_path / "out" / "bot.gguf").stat()
    (tmp_path / "out" / "a" / "b.txt").write_text("mine")
    export(artifacts, files, tmp_path / "out")

    assert (work / "weights.bin").read_bytes() == (tmp_path / "out" / "bot.gguf").read_bytes()
    assert before.st_ino == (tmp_path / "out" / "bot.gguf").stat().st_ino
    assert before.st_mode & 0o200
    assert (tmp_path / "out" / "a" / "b.txt").read_text() == "Grüße"
    assert {"bot.gguf", "a", ".tunesmith"} == {path.name for path in (tmp_path / "out").iterdir()}


def test_a_damaged_file_does_not_reach_the_user(place: Place, work: Path, tmp_path: Path) -> None:
    """Neither whole nor in part, even where the store is read in place."""
    artifacts = place.artifacts()
    manifest = artifacts.commit("quantized", KEY, work)
    place.overwrite(artifacts.attempt_name(manifest, "weights.bin"), b"other")

    with pytest.raises(StageFailure) as failed:
        export(artifacts, {"bot.gguf": Source(manifest, "weights.bin")}, tmp_path / "out")

    assert (failed.value.failure, failed.value.artifact) == (FailureClass.ARTIFACT_CORRUPT, ("quantized", KEY))
    assert not (tmp_path / "out" / "bot.gguf").exists()
