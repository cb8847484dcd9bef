"""From a set of tools to llama.cpp's Python bindings on its own libllama, for what no tool can do (token ids, logits)."""

import importlib
import os
import sys
from types import ModuleType

from tunesmith.llama_cpp.tools import Tools
from tunesmith_api.failures import FailureClass, StageFailure


def load_bindings(tools: Tools) -> ModuleType:
    """The low-level module ``llama_cpp`` (functions named as in llama.h), its processor back ends registered.

    Process-wide: the first set of tools that is loaded stays. Raises ToolsMissing where the bindings do not fit the
    library or lack a package of the extra ``gguf``.
    """
    # Read by the bindings when they are imported: where libllama.so is.
    os.environ["LLAMA_CPP_LIB_PATH"] = str(tools.libllama.parent)
    if str(tools.bindings) not in sys.path:
        sys.path.insert(0, str(tools.bindings))
    try:
        bindings = importlib.import_module("llama_cpp")
        ggml = importlib.import_module("llama_cpp._ggml")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise StageFailure(
            FailureClass.TOOLS_MISSING,
            f"llama.cpp's Python bindings in {tools.bindings} cannot be loaded: {error}",
            "Install the extra 'gguf' (pip install 'tunesmith[gguf]'); 'tunesmith doctor' shows the rest.",
        ) from error
    # llama.cpp looks for the libraries of the processor variants beside the program, which here is Python.
    ggml.libggml.ggml_backend_load_all_from_path(str(tools.libllama.parent).encode())
    return bindings
