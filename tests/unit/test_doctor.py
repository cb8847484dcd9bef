"""What 'tunesmith doctor' finds, and what it says where something is wrong."""

import json
import platform
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from support.cli import called
from support.llama_cpp_folders import a_tools_folder
from tunesmith.doctor import (
    GIB,
    Finding,
    Report,
    Verdict,
    disk_finding,
    examine,
    gpu_finding,
    model_name,
    package_finding,
    tools_finding,
)
from tunesmith.llama_cpp.find import candidates


def test_this_machine_is_examined_whole() -> None:
    """Python, packages of each extra, llama.cpp, processor, memory, disk and GPU are all looked at, and are JSON."""
    report = examine()

    subjects = [finding.subject for finding in report.findings]
    assert {"Python", "llama.cpp", "processor", "memory", "disk", "GPU"} <= set(subjects)
    assert json.loads(json.dumps(report.to_json_dict()))["ready"] is True


def test_what_is_missing_is_the_exit_code_in_both_forms(tmp_path: Path) -> None:
    """A script that asks with --json is told no other thing than a person is."""
    there, nothing = a_tools_folder(tmp_path / "there"), tmp_path / "nothing"
    nothing.mkdir()
    ready = [called("doctor", *form, TUNESMITH_LLAMA_CPP=str(there)) for form in ((), ("--json",))]
    missing = [called("doctor", *form, TUNESMITH_LLAMA_CPP=str(nothing)) for form in ((), ("--json",))]

    assert [(ran.code, ran.stderr) for ran in ready + missing] == [(0, ""), (0, ""), (1, ""), (1, "")]
    assert [json.loads(ran.stdout)["ready"] for ran in (ready[1], missing[1])] == [True, False]
    assert "missing llama.cpp" in " ".join(missing[0].stdout.split())


def test_folders_and_cures_have_lines_of_their_own(tmp_path: Path) -> None:
    """Whole, however narrow the terminal is."""
    tools, cache = a_tools_folder(tmp_path / "tools"), tmp_path / ("cache" * 20)
    named = {"TUNESMITH_CACHE": str(cache), "TTY_COMPATIBLE": "1", "COLUMNS": "40", "TERM": "dumb"}
    found = called("doctor", TUNESMITH_LLAMA_CPP=str(tools), **named).stdout.splitlines()
    refused = called("doctor", TUNESMITH_LLAMA_CPP=str(tmp_path / "nope"), **named).stdout.splitlines()

    assert f"         {tools}" in found
    assert f"         {cache}" in found
    assert "         Unset TUNESMITH_LLAMA_CPP." in refused


def test_a_package_that_is_absent_or_too_old_is_named_with_the_cure() -> None:
    """The finding says what is asked for and what is there; packages that fit are not complained about."""
    asked = [Requirement("torch>=2.13; extra == 'trainer'"), Requirement("trl>=1.15"), Requirement("peft>=0.21")]

    finding = package_finding("trainer", asked, {"torch": "2.9.1", "peft": "0.21.2"}.get)

    assert finding.verdict is Verdict.MISSING
    assert finding.detail == "asked for: torch>=2.13 (2.9.1), trl>=1.15 (absent)"
    assert finding.hint == "pip install '.[trainer]' in Tunesmith's source folder"
    assert finding.facts == {"torch": "2.9.1", "trl": None, "peft": "0.21.2"}


def test_what_only_a_cluster_needs_is_noted() -> None:
    """Whole jobs run here without it."""
    finding = package_finding("cluster", [Requirement("kubernetes>=37; extra == 'cluster'")], {}.get)

    assert (finding.verdict, finding.detail) == (Verdict.NOTE, "asked for: kubernetes>=37 (absent)")
    assert finding.hint == "pip install '.[cluster]' in Tunesmith's source folder"


def test_tools_that_are_absent_come_with_the_commands_that_make_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """System packages first, then the build."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    monkeypatch.delenv("TUNESMITH_LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")

    finding = tools_finding(candidates(), ["cmake", "g++"])

    assert finding.verdict is Verdict.MISSING
    assert finding.hint.startswith(f"apt-get install --yes cmake g++; then {sys.executable} -m tunesmith.llama_cpp")


def test_a_named_folder_that_is_broken_is_missing_even_if_the_cache_has_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor says what a run would say: a named folder is never passed over."""
    broken = a_tools_folder(tmp_path / "broken", without_options=("--dry-run",))
    monkeypatch.setenv("TUNESMITH_LLAMA_CPP", str(broken))

    finding = tools_finding(candidates(), [])

    assert finding.verdict is Verdict.MISSING
    assert "bin/llama-quantize has no --dry-run" in finding.detail


def test_a_named_folder_that_is_not_there_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not by each of its files."""
    monkeypatch.setenv("TUNESMITH_LLAMA_CPP", str(tmp_path / "nope"))

    assert tools_finding(candidates(), []).detail == f"TUNESMITH_LLAMA_CPP: there is no folder {tmp_path}/nope"


@pytest.mark.parametrize(("free", "verdict"), [(10 * GIB, Verdict.OK), (10 * GIB - 1, Verdict.NOTE)])
def test_little_disk_is_noted(free: int, verdict: Verdict) -> None:
    """Ten GiB is enough for a demo; less is said, but forbids nothing."""
    assert disk_finding(Path("/cache"), free).verdict is verdict


def test_gpus_are_read_from_the_driver() -> None:
    """Product and memory, one line per GPU; shared memory has no figure."""
    finding = gpu_finding("NVIDIA H100 80GB HBM3, 81559, 570.86.15\nNVIDIA GB10, [N/A], 570.86.15\n")

    assert finding.verdict is Verdict.OK
    assert [gpu["memoryMiB"] for gpu in finding.facts["gpus"]] == [81559, None]


@pytest.mark.parametrize("answer", [None, "", "\n"])
def test_no_gpu_is_a_note_and_no_fault(answer: str | None) -> None:
    """Training runs on a processor, too."""
    assert gpu_finding(answer).verdict is Verdict.NOTE


def test_the_first_processor_speaks_for_all() -> None:
    """Arm has no model name."""
    assert model_name("model name\t: AMD EPYC\nflags\t\t: fpu\n\nmodel name\t: other\n") == "AMD EPYC"
    assert model_name("processor\t: 0\nFeatures\t: fp asimd sve\n") == platform.machine()


def test_a_machine_that_lacks_something_is_not_ready() -> None:
    """Notes do not count, missing things do."""
    note = Finding("GPU", Verdict.NOTE, "none")

    assert Report((note,)).ready
    assert not Report((note, Finding("llama.cpp", Verdict.MISSING, "no tools"))).ready
