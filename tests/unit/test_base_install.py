"""What the base install can do (docs/installation.md): the command line, and to say what else a command needs."""

import json
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.base_install import make_base_install, started
from support.llama_cpp_folders import a_chatting_server, a_tools_folder
from support.runs import Ran
from support.tiny_sources import write_sources

TRAINER = "pip install '.[trainer]' in Tunesmith's source folder"
FILE = {"name": "j-Q8_0.gguf", "type": "Q8_0", "bytes": 10**6, "figures": {}, "published": True}
REPORT = {"job": "j", "verdict": "Passed", "files": [FILE | {"verdict": "Passed", "gates": []}]}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of such an environment."""
    return make_base_install(tmp_path_factory.mktemp("base") / "venv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job of a tiny model, and a finished run."""
    write_sources(tmp_path)
    (tmp_path / "finished").mkdir()
    (tmp_path / "finished" / "report.json").write_text(json.dumps(REPORT))
    return tmp_path


def ran(python: Path, folder: Path, command: str, dataset: str = "rows.jsonl", **environment: str) -> Ran:
    """A command on a job with that dataset in `folder`; JOB stands for its manifest, OUT for the finished run."""
    spec: dict[str, Any] = {"model": {"source": "file://model"}, "datasets": [{"source": f"file://{dataset}"}]}
    job = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "j"}, "spec": spec}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    places = {"JOB": folder / "job.yaml", "OUT": folder / "finished", "NEW": folder / "new"}
    arguments = [places.get(word, word) for word in command.split()]
    return started(python, *arguments, TUNESMITH_CACHE=str(folder / "cache"), **environment)


def test_the_environment_of_these_tests_lacks_what_the_extras_bring(python: Path) -> None:
    """Or they would prove nothing."""
    there = "[name for name in ('torch', 'transformers', 'numpy', 'gguf', 'rich') if importlib.util.find_spec(name)]"
    code = f"import importlib.util; print(*{there})"
    found = subprocess.run([python, "-I", "-c", code], capture_output=True, check=True)

    assert found.stdout == b"rich\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("--help", "validate"),
        ("validate JOB", "read 60, invalid 0"),
        ("plan JOB", "quantize-Q4_K_M"),
        ("show OUT", "j: gates Passed"),
        ("gc", "removed from"),
    ],
)
def test_a_command_that_trains_nothing_works(python: Path, folder: Path, command: str, said: str) -> None:
    """With neither extra installed."""
    found = ran(python, folder, command)

    assert (found.code, found.stderr) == (0, "")
    assert said in found.stdout


def test_doctor_names_what_each_extra_would_bring(python: Path, folder: Path) -> None:
    """Exit code 1, as no job can run here."""
    found = ran(python, folder, "doctor", TUNESMITH_LLAMA_CPP=str(a_tools_folder(folder / "tools")))

    assert (found.code, found.stderr) == (1, "")
    lines = [line.strip() for line in found.stdout.splitlines()]
    assert "ok       packages for the command line: " in found.stdout
    assert lines.count("pip install '.[gguf]' in Tunesmith's source folder") == lines.count(TRAINER) == 1


def test_chat_needs_only_llama_cpp_s_tools(python: Path, folder: Path) -> None:
    """And without them says how they are built."""
    tools = a_chatting_server(folder / "tools", "Hello there.")
    talked = ran(python, folder, "chat OUT --prompt hi", TUNESMITH_LLAMA_CPP=str(tools))
    without = ran(python, folder, "chat OUT --prompt hi", TUNESMITH_LLAMA_CPP="", PATH="/nowhere")

    assert (talked.code, talked.stdout, talked.stderr) == (0, "Hello there.\n", "")
    assert without.code == 1
    assert f"Build them once: {python} -m tunesmith.llama_cpp" in without.stderr


def test_a_command_for_a_cluster_says_which_extra_it_needs(python: Path, folder: Path) -> None:
    """Of what it does on this machine nothing is missing: a wrong manifest is told first."""
    without = ran(python, folder, "status j")
    wrong = ran(python, folder, "submit JOB")

    assert (without.code, without.stdout) == (1, "")
    assert "pip install '.[cluster]' in Tunesmith's source folder" in without.stderr
    assert wrong.code == 2
    assert "spec.model.source" in wrong.stderr


def test_rows_that_only_the_extra_reads_are_left_unchecked(python: Path, folder: Path) -> None:
    """With the command that installs what reads them; the manifest is no worse for it."""
    (folder / "rows.parquet").write_bytes(b"PAR1" + b"x" * 20 + b"PAR1")
    found = ran(python, folder, "validate JOB", dataset="rows.parquet")

    assert found.code == 0
    assert "Not checked from here" in found.stdout
    assert TRAINER in found.stdout


def test_run_ends_with_the_command_that_installs_the_rest(python: Path, folder: Path) -> None:
    """The first stage says it, and no traceback does."""
    (folder / "model" / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    tools = a_tools_folder(folder / "tools")
    found = ran(python, folder, "run JOB --output NEW", TUNESMITH_LLAMA_CPP=str(tools))

    assert found.code == 1
    assert "ToolsMissing in prepare" in found.stdout
    assert TRAINER in found.stdout
    assert "Traceback" not in found.stdout + found.stderr
