"""A command of llama.cpp's becomes one that never outlives who started it."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Started in place of the tool, becomes the tool: asks Linux to kill it when its parent dies, however it dies (prctl(2),
# PR_SET_PDEATHSIG is 1). A preexec_fn would do the same in a forked copy of a process that has threads.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def dying_with_us(command: Sequence[str | Path]) -> list[str]:
    """`command` (an absolute path first) so started that it never outlives this process."""
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *map(str, command)]
