"""With how many threads this process computes, and how much memory it has taken."""

import os
import platform
import resource
from pathlib import Path

from tunesmith.cores import usable_cores

_CGROUP = Path("/sys/fs/cgroup")


def threads(cgroup: Path = _CGROUP) -> int:
    """How many threads compute: the CPUs that this process may use.

    torch by itself takes all of the host's cores. A number in OMP_NUM_THREADS is the user's own choice and wins.
    """
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    if chosen.isdigit() and int(chosen) > 0:
        return int(chosen)
    return usable_cores(cgroup)


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes (getrusage gives KiB on Linux, bytes on macOS)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
