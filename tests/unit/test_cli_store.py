"""Commands and the store that they are told: the same one for each, and a run that cannot write into it has ended."""

from pathlib import Path

import pytest
import yaml

from support.cli import called
from support.tiny_sources import write_sources
from tunesmith.llama_cpp import find_tools
from tunesmith.local.record import read_record
from tunesmith_api.status import Phase


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a job of a tiny model."""
    monkeypatch.chdir(write_sources(tmp_path))
    spec = {"model": {"source": "file://model"}, "datasets": [{"source": "file://rows.jsonl"}]}
    job = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "j"}, "spec": spec}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    return tmp_path


@pytest.mark.parametrize("written", ["store", "file://store", "./store/"])
def test_gc_sweeps_the_folder_that_run_fills(folder: Path, written: str) -> None:
    """A relative one too."""
    ran = called("gc", "--dry-run", "--store", written, TUNESMITH_CACHE=str(folder / "cache"))

    assert ran.code == 0, ran.stderr
    assert f"would be removed from {folder}/store" in ran.stdout


def test_gc_says_what_a_store_must_be(folder: Path) -> None:
    """A file has nothing to sweep; a folder that is not there neither, and is no mistake."""
    ran = called("gc", "--store", "rows.jsonl", TUNESMITH_CACHE=str(folder / "cache"))

    assert ran.code == 2
    assert f"the store {folder}/rows.jsonl is a file; it must be a folder" in ran.stderr
    assert called("gc", "--store", "new", TUNESMITH_CACHE=str(folder / "cache")).code == 0
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("command", "option"),
    [("gc", "--store"), ("gc", "--namespace")]
    + [(command, option) for command in ("run", "plan") for option in ("--store", "--output", "--namespace")],
)
def test_an_option_that_is_empty_is_refused(folder: Path, command: str, option: str) -> None:
    """An unset variable of a shell must not mean the default store, or the working folder."""
    arguments = [] if command == "gc" else [folder / "job.yaml"]
    ran = called(command, *arguments, option, "", TUNESMITH_CACHE=str(folder / "cache"))

    assert ran.code == 2, ran.stdout
    assert option in ran.stderr
    assert "it is empty (an unset variable?)" in ran.stderr


def test_help_names_the_defaults() -> None:
    """Of store and namespace."""
    said = " ".join(called("gc", "--help").stdout.split())

    assert "[default: the manifest's, or 'default']" in said
    assert "or a folder in the cache]" in said


def test_a_run_that_cannot_begin_is_no_running_one(folder: Path) -> None:
    """The store cannot be written to: told, and recorded."""
    (folder / "store" / "default").mkdir(parents=True)
    (folder / "store" / "default" / "runs").write_text("no folder")
    tools, cache = str(find_tools().folder), str(folder / "cache")
    ran = called("run", folder / "job.yaml", "--store", "store", TUNESMITH_CACHE=cache, TUNESMITH_LLAMA_CPP=tools)

    assert ran.code != 0
    record = read_record(folder / "j")
    assert record is not None
    assert record.phase is Phase.FAILED
    assert record.failure is not None
