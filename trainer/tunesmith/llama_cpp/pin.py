"""Which llama.cpp we build: the source, its hash and the recipe; raising any of them names another folder."""

import platform
from dataclasses import dataclass

from tunesmith.llama_cpp.tools import Build


@dataclass(frozen=True, slots=True)
class Pin:
    """A source distribution that carries llama.cpp and its Python bindings, and how we build it.

    `requirement` is what pip downloads, `archive` the file that comes and its sha256; `root` the folder in it,
    `tree` llama.cpp in that folder. `recipe` is raised when CMake options, headers or the layout change.
    """

    requirement: str
    archive: str
    sha256: str
    root: str
    tree: str
    build: Build
    recipe: int

    @property
    def build_id(self) -> str:
        """Name of the folder in the cache; caches are shared between machines, so the processor is in it."""
        return f"{self.build}-r{self.recipe}-{platform.machine()}"


# llama-cpp-python (MIT) carries the whole tree of llama.cpp (MIT). Its commit is what CHANGELOG.md of 0.3.36 and the
# submodule's HEAD in the archive say; llama.cpp's release tag b11312 is that commit (the archive has no history to
# count).
PIN = Pin(
    requirement="llama-cpp-python==0.3.36",
    archive="llama_cpp_python-0.3.36.tar.gz",
    sha256="832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
    root="llama_cpp_python-0.3.36",
    tree="vendor/llama.cpp",
    build=Build(11312, "0c1e57098"),
    recipe=3,
)
