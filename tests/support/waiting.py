"""Waiting for a condition instead of for a while."""

import threading
import time
from collections.abc import Callable

# Short enough that a fast condition costs nothing, long enough to leave the processor to what is waited for.
_PAUSE_SECONDS = 0.05


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 300.0, every: float = _PAUSE_SECONDS) -> None:
    """Return as soon as the condition holds; an AssertionError that says what was waited for if it never does.

    `seconds` only bounds what hangs: importing torch alone takes a minute on slow, busy cores. It is looked `every` so
    many seconds.
    """
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"waited {seconds:.0f} s for {what}")
        pause.wait(every)
