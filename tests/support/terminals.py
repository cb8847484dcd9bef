"""Commands of the command line on a terminal of their own: what a person sees there, and the keys that they press."""

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

from support.waiting import wait_until

# The command takes the terminal for its own, so that a key reaches it as a signal.
_PROGRAM = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from tunesmith.cli import main; main()"
_LINES, _COLUMNS = 40, 100
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class OnTerminal:
    """A command of the command line on a pseudo-terminal."""

    def __init__(self, *arguments: str | Path) -> None:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
        # Rich believes these before the terminal's own size.
        surroundings = {name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=surroundings | {"TERM": "xterm"},
            start_new_session=True,
        )
        os.close(theirs)
        self._written: list[bytes] = []
        self._reading = threading.Thread(target=read_all, args=(self._ours, self._written), daemon=True)
        self._reading.start()

    def drawings(self, title: str) -> list[str]:
        """What was written, cut where a board of this title was drawn; without colours and movements."""
        text = b"".join(self._written).decode(errors="replace")
        return _CONTROLS.sub("", text).replace("\r", "").split(title)

    def until(self, title: str, pattern: str) -> None:
        """Wait until the newest drawing shows what is wanted; it must come before the end."""
        wait_until(lambda: bool(self._shows(title, pattern)) or self.process.poll() is not None, pattern)
        assert self._shows(title, pattern), self.drawings(title)[-1][-3000:]

    def _shows(self, title: str, pattern: str) -> re.Match[str] | None:
        return re.search(pattern, self.drawings(title)[-1])

    def press_ctrl_c(self) -> None:
        """The key itself: the terminal makes a signal of it for all that runs in its foreground."""
        os.write(self._ours, b"\x03")

    def end(self, *, timeout: float) -> int:
        """Wait for the end; its exit code."""
        code = self.process.wait(timeout)
        self._reading.join()
        os.close(self._ours)
        return code


def read_all(descriptor: int, into: list[bytes]) -> None:
    """What is written to the other side of a terminal, up to its end."""
    try:
        while piece := os.read(descriptor, 65_536):
            into.append(piece)
    except OSError:  # Linux's word for the end of a pseudo-terminal
        return
