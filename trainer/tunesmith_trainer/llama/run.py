"""From a command of llama.cpp's to its whole output, logged as it comes, with nothing left running behind."""

import codecs
import contextlib
import logging
import os
import re
import selectors
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.llama_cpp.environment import tool_environment
from tunesmith.llama_cpp.tied import dying_with_us
from tunesmith_api.failures import FailureClass, StageFailure

log = logging.getLogger(__name__)

Watch = Callable[[str], None]

# How long a wait for output lasts before it is asked whether the stage was interrupted (seconds); what a person
# who presses Ctrl-C does not notice.
_LOOK_SECONDS = 0.1
_READ_BYTES = 65_536

# In front of a line of llama.cpp's log (common/log.cpp): minutes, seconds, milliseconds, microseconds; then a letter.
_LOG_PREFIX = re.compile(r"^\d+\.\d{2}\.\d{3}\.\d{3} [A-Z] ")


@dataclass(frozen=True, slots=True)
class Ran:
    """A tool that ended: its name, its exit code (which proves nothing) and all that it wrote on both streams."""

    tool: str
    code: int
    output: str

    def tail(self, lines: int = 8) -> str:
        """The last lines that say something, for an error message."""
        said = [_LOG_PREFIX.sub("", line).strip() for line in self.output.splitlines()]
        if self.code < 0:
            said.append(f"it died of {signal.Signals(-self.code).name}")
        return "\n".join([line for line in said if line][-lines:])


def without_watching(line: str) -> None:
    """For a tool whose output says nothing of its progress."""
    del line


def run_tool(
    command: Sequence[str | Path],
    interrupted: threading.Event,
    folder: Path,
    watch: Watch = without_watching,
) -> Ran:
    """Run a tool in `folder`, log what it writes, and answer when it has ended.

    `watch` sees the newest line each time more of it arrives (llama.cpp writes its progress into one line). The exit
    code is no verdict: llama.cpp's tools return 0 on several failures, so callers verify what was made. Raises
    Interrupted as soon as `interrupted` is set, OutOfMemory if the system killed the tool, ToolsMissing if it cannot
    run here at all.
    """
    name = Path(command[0]).name
    log.info("%s %s", name, " ".join(map(str, command[1:])))
    with subprocess.Popen(
        dying_with_us(command),
        cwd=folder,
        env=tool_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            output = _collect(process, interrupted, watch)
        finally:
            kill_group(process)
    ran = Ran(name, process.returncode, output)
    if interrupted.is_set():
        raise StageFailure(FailureClass.INTERRUPTED, f"interrupted while {name} was running")
    _refuse_if_it_cannot_run(ran)
    return ran


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the tool and whatever it started; nothing happens if it has ended.

    Threads may ask for it at the same time: `poll` says that it runs while another thread waits for it.
    """
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _collect(process: subprocess.Popen[bytes], interrupted: threading.Event, watch: Watch) -> str:
    said: list[str] = []
    line = ""
    for text in _pieces(process, interrupted):
        said.append(text)
        *whole, line = (line + text).split("\n")
        for each in whole:
            watch(each)
            if each.strip():
                log.info("%s", each.rstrip())
        if line:
            watch(line)
    process.wait()
    return "".join(said)


def _pieces(process: subprocess.Popen[bytes], interrupted: threading.Event) -> Iterator[str]:
    """Output as it comes, until the tool closes it or the stage is interrupted."""
    if process.stdout is None:
        return
    # A read may end within the bytes of a plus-minus sign.
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not interrupted.is_set():
            if not selector.select(_LOOK_SECONDS):
                continue
            read = os.read(process.stdout.fileno(), _READ_BYTES)
            if not read:
                break
            yield decoder.decode(read)
        else:
            kill_group(process)


def _refuse_if_it_cannot_run(ran: Ran) -> None:
    if ran.code == -signal.SIGKILL or "std::bad_alloc" in ran.output:
        raise StageFailure(FailureClass.OUT_OF_MEMORY, f"{ran.tool} was killed, most likely for want of memory")
    if ran.code == -signal.SIGILL:
        raise StageFailure(FailureClass.TOOLS_MISSING, f"{ran.tool} was built for another processor than this one")
    if ran.code == 127:  # noqa: PLR2004  # the dynamic loader's code for a library that is not there (ld.so)
        raise StageFailure(FailureClass.TOOLS_MISSING, f"{ran.tool} does not start: {ran.tail(2)}")
