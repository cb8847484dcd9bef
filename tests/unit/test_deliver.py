"""A publication becomes a user's folder without taking away what is not ours."""

import json
from pathlib import Path

import pytest

from support.processes import killed_at_write
from tunesmith.local.deliver import deliver_anew, digests_of, refuse_a_folder_of_others
from tunesmith.published_names import all_names
from tunesmith.store import Artifacts, FolderStore
from tunesmith_api.failures import FailureClass, StageFailure

NAMES = all_names("bot", ["Q4_K_M"], ["config.json", "LICENSE"])


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    """A store with two publications: "1" has a card and a file, "2" another card alone."""
    found = Artifacts(FolderStore(tmp_path / "store"), "default")
    for key, files in {"1": {"README.md": "card", "a.gguf": "GGUF"}, "2": {"README.md": "other card"}}.items():
        folder = tmp_path / f"made-{key}"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        found.commit("publication", key * 64, folder)
    return found


def test_a_file_of_somebody_else_is_never_replaced(artifacts: Artifacts, tmp_path: Path) -> None:
    """Exit code 2 names it, and nothing is delivered."""
    out = tmp_path / "project"
    out.mkdir()
    (out / "README.md").write_text("my project")
    with pytest.raises(StageFailure) as caught:
        deliver_anew(artifacts, "1" * 64, out)

    assert caught.value.failure is FailureClass.SPEC_INVALID
    assert "README.md" in caught.value.message
    assert [path.name for path in out.iterdir()] == ["README.md"]
    assert (out / "README.md").read_text() == "my project"


def test_what_a_run_delivered_is_replaced_and_the_very_same_file_is_welcome(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    """A folder that was copied without its record holds the same files already."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("card")
    deliver_anew(artifacts, "1" * 64, out)
    deliver_anew(artifacts, "2" * 64, out)

    assert (out / "README.md").read_text() == "other card"
    assert not (out / "a.gguf").exists()


def test_it_is_told_before_hours_of_work(tmp_path: Path) -> None:
    """Names that every job delivers, and those of its files; files of other names may stay."""
    (tmp_path / "notes.txt").write_text("mine")
    refuse_a_folder_of_others(tmp_path, NAMES)
    (tmp_path / "bot-Q4_K_M.gguf").write_text("mine")
    with pytest.raises(StageFailure, match=r"bot-Q4_K_M\.gguf"):
        refuse_a_folder_of_others(tmp_path, NAMES)
    (tmp_path / ".tunesmith").mkdir()
    (tmp_path / ".tunesmith" / "delivered.json").write_text(json.dumps({"bot-Q4_K_M.gguf": "0" * 64}))
    refuse_a_folder_of_others(tmp_path, NAMES)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("answers.jsonl", "answers.jsonl"),
        ("training-log.jsonl", "training-log.jsonl"),
        ("training-loss.svg", "training-loss.svg"),
        ("Modelfile.Q4_K_M", "Modelfile.Q4_K_M"),
        ("bot-adapter.gguf", "bot-adapter.gguf"),
        ("adapter/adapter_config.json", "adapter/adapter_config.json"),
        ("adapter", "adapter"),
    ],
)
def test_no_file_of_the_result_is_forgotten(tmp_path: Path, name: str, told: str) -> None:
    """Not even a file where a folder is to be; other files in that folder may stay."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(StageFailure, match=rf"would replace: {told}$"):
        refuse_a_folder_of_others(tmp_path, NAMES)

    (tmp_path / name).unlink()
    (tmp_path / "adapter").mkdir(exist_ok=True)
    (tmp_path / "adapter" / "notes.txt").write_text("mine")
    refuse_a_folder_of_others(tmp_path, NAMES)


def test_a_killed_delivery_leaves_nothing_among_the_files(artifacts: Artifacts, tmp_path: Path) -> None:
    """Killed before each of its writes: whole files or none, and the next delivery takes away what waited."""
    number, waited = 0, 0
    while killed_at_write(number, deliver_anew, artifacts, "1" * 64, out := tmp_path / f"out-{number}"):
        texts = {path.name: path.read_text() for path in out.iterdir() if path.is_file()} if out.exists() else {}
        assert texts.items() <= {"README.md": "card", "a.gguf": "GGUF"}.items()
        waited += any(path.is_file() for path in out.glob(".tunesmith/partial/**/*"))
        deliver_anew(artifacts, "1" * 64, out)
        assert sorted(path.name for path in out.iterdir()) == [".tunesmith", "README.md", "a.gguf"]
        assert not (out / ".tunesmith" / "partial").exists()
        number += 1

    assert waited


def test_it_is_told_of_a_result_that_is_in_the_store_too(artifacts: Artifacts, tmp_path: Path) -> None:
    """There the very same file is welcome, and anything else under its name is not."""
    made, out = digests_of(artifacts, "1" * 64), tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("card")
    refuse_a_folder_of_others(out, NAMES, made)
    (out / "a.gguf").write_text("mine")
    with pytest.raises(StageFailure, match=r"would replace: a\.gguf"):
        refuse_a_folder_of_others(out, NAMES, made)
