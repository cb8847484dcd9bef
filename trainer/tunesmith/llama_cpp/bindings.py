"""From a set of tools to the Python bindings of its own libllama, for what no tool can do (token ids, logits)."""

import ctypes
import importlib
import sys
from types import ModuleType

from tunesmith.extras import install_command
from tunesmith.llama_cpp.tools import Tools
from tunesmith_api.failures import FailureClass, StageFailure


def load_bindings(tools: Tools) -> ModuleType:
    """The module ``llama_cpp`` (functions named as in llama.h), with the processor's back end registered.

    Process-wide: the first set of tools that is loaded stays. Raises ToolsMissing where the bindings do not fit the
    library or lack a package of the extra ``gguf``.
    """
    if str(tools.bindings) not in sys.path:
        sys.path.insert(0, str(tools.bindings))
    try:
        bindings = importlib.import_module("llama_cpp")
        # Errors only: at its default level llama.cpp writes a hundred lines for each model that it loads.
        importlib.import_module("llama_cpp._logger").set_verbose(False)
        # llama.cpp looks for the libraries of the processor variants beside the program, which here is Python.
        ggml = ctypes.CDLL(str(tools.libllama.with_name("libggml.so")))
        ggml.ggml_backend_load_all_from_path(str(tools.libllama.parent).encode())
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise StageFailure(
            FailureClass.TOOLS_MISSING,
            f"llama.cpp's Python bindings in {tools.bindings} cannot be loaded: {error}",
            f"{install_command('gguf')}; 'tunesmith doctor' shows the rest.",
        ) from error
    return bindings
