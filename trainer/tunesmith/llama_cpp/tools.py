"""From a folder of llama.cpp tools to the paths of what is in it.

The layout, of our own build and of any other folder that is to be used instead (``$TUNESMITH_LLAMA_CPP``)::

    bin/      llama-quantize, llama-imatrix, llama-perplexity, llama-server,
              libllama.so and the libraries it needs
    convert/  convert_hf_to_gguf.py, convert_lora_to_gguf.py, conversion/, gguf-py/
    python/   llama_cpp/, the Python bindings of exactly this libllama; its lib/ is a link to bin/
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Origin(StrEnum):
    """Where a set of tools was found."""

    ENVIRONMENT = "TUNESMITH_LLAMA_CPP"
    PATH = "PATH"
    CACHE = "cache"


@dataclass(frozen=True, slots=True)
class Build:
    """Which llama.cpp: the number and the abbreviated commit that its tools print themselves."""

    number: int
    commit: str

    def __str__(self) -> str:
        return f"b{self.number}-{self.commit}"


@dataclass(frozen=True, slots=True)
class Tools:
    """One whole set of llama.cpp's tools; every path exists.

    `libllama` lies in one folder with the libraries of the processor variants that it loads at run time; `bindings`
    is the folder to put on ``sys.path`` for ``import llama_cpp`` (see `tunesmith.llama_cpp.bindings`).
    """

    folder: Path
    origin: Origin
    build: Build
    quantize: Path
    imatrix: Path
    perplexity: Path
    server: Path
    convert_hf_to_gguf: Path
    convert_lora_to_gguf: Path
    libllama: Path
    bindings: Path


# Names of `Tools`' fields and where the layout has them.
EXECUTABLES = {
    "quantize": Path("bin/llama-quantize"),
    "imatrix": Path("bin/llama-imatrix"),
    "perplexity": Path("bin/llama-perplexity"),
    "server": Path("bin/llama-server"),
}
SCRIPTS = {
    "convert_hf_to_gguf": Path("convert/convert_hf_to_gguf.py"),
    "convert_lora_to_gguf": Path("convert/convert_lora_to_gguf.py"),
}
LIBRARIES = {"libllama": Path("bin/libllama.so"), "bindings": Path("python")}
# What the scripts and the bindings import from beside them.
COMPANIONS = (
    Path("convert/conversion/__init__.py"),
    Path("convert/gguf-py/gguf/__init__.py"),
    Path("python/llama_cpp/__init__.py"),
    Path("python/llama_cpp/lib/libllama.so"),
)


def missing_files(folder: Path) -> list[str]:
    """The parts of the layout that `folder` lacks, as paths relative to it."""
    wanted = [*EXECUTABLES.values(), *SCRIPTS.values(), *LIBRARIES.values(), *COMPANIONS]
    return [str(part) for part in wanted if not (folder / part).exists()]


def tools_in(folder: Path, origin: Origin, build: Build) -> Tools:
    """The set of tools in `folder`, which has the whole layout."""
    parts = {**EXECUTABLES, **SCRIPTS, **LIBRARIES}
    return Tools(folder=folder, origin=origin, build=build, **{name: folder / part for name, part in parts.items()})
