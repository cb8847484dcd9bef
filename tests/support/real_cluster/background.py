"""Processes that outlive whoever started them, known again by their id and the time of their start."""

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Background:
    """The processes of one folder, by name: ``log/NAME.log`` holds what each says, also what earlier ones of it said.

    ``pid/NAME`` holds its id, the time of its start, and the size of the log at that time, in bytes.

    What does not end within `patience` seconds of being asked is killed.
    """

    folder: Path
    patience: float = 10.0

    def start(self, name: str, command: list[str | Path], environment: dict[str, str] | None = None) -> None:
        """Start a process in a session of its own."""
        for part in ("pid", "log"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as output:
            said_before = output.tell()
            process = subprocess.Popen(
                [str(word) for word in command],
                cwd=self.folder,
                env=os.environ | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (self.folder / "pid" / name).write_text(f"{process.pid} {_started(process.pid)} {said_before}")

    def log(self, name: str) -> Path:
        """What a process says."""
        return self.folder / "log" / f"{name}.log"

    def names(self) -> list[str]:
        """All that were started, the latest last."""
        pids = (self.folder / "pid").glob("*")
        return [path.name for path in sorted(pids, key=lambda path: path.stat().st_mtime_ns)]

    def running(self, name: str) -> int | None:
        """The id of a process that still runs; None where it has ended, or its id is another's by now."""
        path = self.folder / "pid" / name
        if not path.exists():
            return None
        pid, started = path.read_text().split()[:2]
        return int(pid) if _started(int(pid)) == started else None

    def said(self, name: str) -> str:
        """What a process has said since its start."""
        said_before = int((self.folder / "pid" / name).read_text().split()[2])
        return self.log(name).read_bytes()[said_before:].decode(errors="replace")

    def tail(self, name: str) -> str:
        """The end of what a process said."""
        return self.said(name)[-2000:]

    def stop(self, name: str) -> None:
        """Ask a process to end, and insist where it does not."""
        pid = self.running(name)
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        try:
            wait_until(lambda: self.running(name) is None, f"{name} to end", self.patience)
        except AssertionError:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: self.running(name) is None, f"{name} to be gone")


def _started(pid: int) -> str:
    """When a process started, in ticks since boot (proc(5), stat, field 22); empty for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in {"Z", "X"} else fields[19]
