"""llama.cpp's tools: where they are on this machine, whether they can do what we need, and how they are built."""

from tunesmith.llama_cpp.build import build_tools, provide_tools
from tunesmith.llama_cpp.find import find_tools
from tunesmith.llama_cpp.tools import Build, Origin, Tools

__all__ = ["Build", "Origin", "Tools", "build_tools", "find_tools", "provide_tools"]
