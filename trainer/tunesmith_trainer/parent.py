"""A stage that a local runner started ends with it, however the runner ends."""

import ctypes
import os
import signal
import sys

from tunesmith.local.processes import PARENT

# linux/prctl.h
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask Linux for SIGTERM when the runner dies; end at once if it already has. Elsewhere, and in a pod, nothing."""
    parent = os.environ.get(PARENT)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGTERM)
