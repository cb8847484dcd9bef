"""Which llama.cpp tools are used, and why others are not."""

import sys
from pathlib import Path

import pytest

from support.llama_cpp_folders import a_script, a_tools_folder
from tunesmith.llama_cpp.find import candidates, find_tools
from tunesmith.llama_cpp.pin import PIN
from tunesmith.llama_cpp.probe import absent_options, parse_build, shortcomings
from tunesmith.llama_cpp.tools import Build, Origin
from tunesmith_api.failures import FailureClass, StageFailure


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No tools anywhere: an empty cache, nothing named, and a PATH with the system's commands only."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TUNESMITH_LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return monkeypatch


def test_the_tools_of_this_machine_have_every_option_that_we_need() -> None:
    """What 'make setup' built answers every probe and says which llama.cpp it is."""
    tools = find_tools()

    assert shortcomings(tools.folder) == []
    assert tools.build.number > 0


def test_a_named_folder_comes_before_path_and_cache(tmp_path: Path, bare_machine: pytest.MonkeyPatch) -> None:
    """TUNESMITH_LLAMA_CPP wins over a whole set on PATH."""
    named = a_tools_folder(tmp_path / "named", version="version: 4567 (abcdef0)")
    on_path = a_tools_folder(tmp_path / "on-path")
    bare_machine.setenv("TUNESMITH_LLAMA_CPP", str(named))
    bare_machine.setenv("PATH", f"{on_path}/bin:/usr/bin:/bin")

    tools = find_tools()

    assert (Origin.ENVIRONMENT, named, Build(4567, "abcdef0")) == (tools.origin, tools.folder, tools.build)


def test_a_named_folder_that_cannot_be_used_is_an_error(tmp_path: Path, bare_machine: pytest.MonkeyPatch) -> None:
    """A named folder is never silently passed over: the error names the tool and the option that it lacks."""
    named = a_tools_folder(tmp_path / "old", without_options=("--parse-special",))
    bare_machine.setenv("TUNESMITH_LLAMA_CPP", str(named))

    with pytest.raises(StageFailure) as caught:
        find_tools()

    assert caught.value.failure is FailureClass.TOOLS_MISSING
    assert "bin/llama-imatrix has no --parse-special" in caught.value.message


@pytest.mark.parametrize(
    "lacking", ["bin/llama-server", "bin/libllama.so", "convert/conversion/__init__.py", "python/llama_cpp/__init__.py"]
)
def test_a_folder_must_be_whole(tmp_path: Path, lacking: str) -> None:
    """Tools, converter, library and bindings go together: each missing part is named."""
    folder = a_tools_folder(tmp_path / "part")
    (folder / lacking).unlink()

    assert [f"{lacking} is not there"] == shortcomings(folder)


@pytest.mark.parametrize("body", ["exit 127", "kill -ILL $$"])
def test_a_tool_that_does_not_run_is_named(tmp_path: Path, body: str) -> None:
    """A library that does not load ends a program with 127, a missing processor instruction by a signal."""
    folder = a_tools_folder(tmp_path / "foreign")
    a_script(folder / "bin/llama-perplexity", body)

    assert shortcomings(folder) == ["bin/llama-perplexity does not run"]


def test_a_whole_set_on_path_is_used(tmp_path: Path, bare_machine: pytest.MonkeyPatch) -> None:
    """PATH may hold a link to a tool: the folder that the link leads to is the one that counts."""
    folder = a_tools_folder(tmp_path / "own")
    links = tmp_path / "links"
    links.mkdir()
    (links / "llama-quantize").symlink_to(folder / "bin" / "llama-quantize")
    bare_machine.setenv("PATH", f"{links}:/usr/bin:/bin")

    assert (Origin.PATH, folder) == (find_tools().origin, find_tools().folder)


def test_path_is_passed_over_where_an_option_is_missing(tmp_path: Path, bare_machine: pytest.MonkeyPatch) -> None:
    """A set on PATH without --kl-divergence gives way to the one in the cache, and the candidates say why."""
    old = a_tools_folder(tmp_path / "old", without_options=("--kl-divergence",))
    bare_machine.setenv("PATH", f"{old}/bin:/usr/bin:/bin")
    built = a_tools_folder(tmp_path / "cache" / "llama.cpp" / PIN.build_id)

    assert (Origin.CACHE, built) == (find_tools().origin, find_tools().folder)
    assert candidates()[1].problems == ("bin/llama-perplexity has no --kl-divergence",)


def test_no_tools_at_all_says_how_to_get_them(tmp_path: Path, bare_machine: pytest.MonkeyPatch) -> None:
    """The error names the place of the cache, why PATH was refused, and the command that builds."""
    old = a_tools_folder(tmp_path / "old", without_options=("--jinja",))
    bare_machine.setenv("PATH", f"{old}/bin:/usr/bin:/bin")

    with pytest.raises(StageFailure) as caught:
        find_tools()

    assert caught.value.failure is FailureClass.TOOLS_MISSING
    assert "bin/llama-server has no --jinja" in caught.value.message
    assert str(tmp_path / "cache") in caught.value.message
    assert f"{sys.executable} -m tunesmith.llama_cpp" in caught.value.hint


def test_a_longer_option_does_not_stand_for_a_shorter_one() -> None:
    """--chunks is another option than --chunk, though its name begins with it."""
    assert absent_options("--chunks N   number of chunks", ("--chunk", "--chunks")) == ["--chunk"]


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("version: 0.5.0-dev (build 11312, commit 0c1e570)\nbuilt with GNU", Build(11312, "0c1e570")),
        ("warning: no GPU\nversion: 6123 (79c1160b)\n", Build(6123, "79c1160b")),
        ("usage: llama-server", None),
    ],
)
def test_build_is_read_in_both_forms(text: str, build: Build | None) -> None:
    """llama.cpp printed number and commit one way until 2026 and prints them another way since."""
    assert build == parse_build(text)
