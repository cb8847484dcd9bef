"""The Python bindings on the library of our own build."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith.llama_cpp import find_tools
from tunesmith.llama_cpp.bindings import load_bindings
from tunesmith_api.failures import FailureClass, StageFailure


def test_the_bindings_load_with_a_processor_back_end() -> None:
    """Without a back end no model runs: llama.cpp says which instruction sets the chosen one uses."""
    say = "print(load_bindings(find_tools()).llama_print_system_info().decode())"
    program = (
        f"from tunesmith.llama_cpp import find_tools\nfrom tunesmith.llama_cpp.bindings import load_bindings\n{say}"
    )

    # In a process of its own: what is loaded stays loaded.
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert run.stdout.startswith("CPU : ")


def test_bindings_that_cannot_be_loaded_are_missing_tools(tmp_path: Path) -> None:
    """A library that is no library is classified, with the folder that it came from."""
    broken = tmp_path / "libggml.so"
    broken.write_text("no library")
    tools = replace(find_tools(), libllama=broken)

    with pytest.raises(StageFailure) as caught:
        load_bindings(tools)

    assert caught.value.failure is FailureClass.TOOLS_MISSING
    assert str(tools.bindings) in caught.value.message
