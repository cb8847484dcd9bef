"""The options that a set of tools is probed for are those that it is used with: no more and no fewer."""

import json
import re
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cli import called
from support.llama_cpp_folders import a_script, a_tools_folder
from tunesmith.llama_cpp.probe import NEEDED_OPTIONS, shortcomings
from tunesmith.llama_cpp.tools import EXECUTABLES, Build, Origin, Tools, tools_in
from tunesmith_api.failures import StageFailure
from tunesmith_api.quantizations import QuantizationType
from tunesmith_trainer.llama.importance import Calibrating, Piece, collect
from tunesmith_trainer.llama.perplexity import Measuring, compare_with_baseline, measure_perplexity
from tunesmith_trainer.llama.quantization import Quantizing, plan_quantization, quantize
from tunesmith_trainer.llama.server import Serving, serve

NEVER = threading.Event()


def recording_tools(folder: Path) -> Tools:
    """Tools that come to nothing, but write down beside `folder` what they were called with, an argument a line."""
    a_tools_folder(folder)
    for name, tool in EXECUTABLES.items():
        usage = f"echo {' '.join(NEEDED_OPTIONS[name])}"
        record = f'printf "%s\\n" "$@" >> {folder.parent}/{name}; exit 3'
        a_script(folder / tool, f'case "$1" in --help|--version) {usage};; *) {record};; esac')
    return tools_in(folder, Origin.ENVIRONMENT, Build(1, "0"))


def use_quantize(tools: Tools, folder: Path) -> None:
    how = Quantizing(tools, folder / "m.gguf", QuantizationType.Q4_K_M, folder / "i.gguf", folder, NEVER)
    comes_to_nothing(lambda: plan_quantization(how))
    comes_to_nothing(lambda: quantize(how, folder / "q.gguf"))


def use_imatrix(tools: Tools, folder: Path) -> None:
    how = Calibrating(tools, folder / "m.gguf", folder / "c.txt", 512, NEVER, lambda _: None)
    comes_to_nothing(lambda: collect(how, Piece(40, 40, folder / "before.gguf"), folder / "i.gguf"))


def use_perplexity(tools: Tools, folder: Path) -> None:
    how = Measuring(tools, folder, NEVER, 512, 2, lambda _: None)
    logits = folder / "logits.kld"
    logits.write_bytes(b"_logits_" + struct.pack("<3i", 512, 10, 0))
    comes_to_nothing(lambda: measure_perplexity(how, folder / "m.gguf", folder / "gate.txt", logits))
    comes_to_nothing(lambda: compare_with_baseline(how, folder / "q.gguf", logits))


def use_server(tools: Tools, folder: Path) -> None:
    """By a stage with a template of its own, and by 'tunesmith chat'."""
    how = Serving(512, 2, folder / "template.jinja")
    comes_to_nothing(lambda: serve(tools, folder / "m.gguf", how, NEVER).__enter__())
    file = {"name": "m.gguf", "type": "Q8_0", "verdict": "Passed", "published": True}
    (folder / "report.json").write_text(json.dumps({"files": [file]}))
    asked = called("chat", folder, "--prompt", "Hi", TUNESMITH_LLAMA_CPP=str(tools.folder))
    assert "llama-server ended with code 3" in asked.stderr


def comes_to_nothing(use: Callable[[], object]) -> None:
    """As every use of these tools must."""
    with pytest.raises(StageFailure):
        use()


USES = {"quantize": use_quantize, "imatrix": use_imatrix, "perplexity": use_perplexity, "server": use_server}


@pytest.mark.parametrize("tool", EXECUTABLES)
def test_a_tool_is_probed_for_the_options_that_it_is_used_with(tool: str, tmp_path: Path) -> None:
    """A build that lacks one fails the probe and not a stage, hours later; one that lacks another is not refused."""
    tools = recording_tools(tmp_path / "tools")
    assert shortcomings(tools.folder) == []

    USES[tool](tools, tmp_path)

    passed = re.findall(r"^--[a-z].*$", (tmp_path / tool).read_text(), re.MULTILINE)
    assert set(passed) == set(NEEDED_OPTIONS[tool])
