"""One stage as a process of its own: started with a request, ended by signals, read back as a result."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tunesmith.cache import named_folders
from tunesmith_api.failures import FAILURES, FailureClass, StageFailure
from tunesmith_api.stages import StageRequest, StageResult, failure_of

# Names the process that a stage must not outlive.
PARENT = "TUNESMITH_PARENT"
# Threads that wait give their core away instead of spinning: torch and llama.cpp otherwise fight over the cores with
# each other and with whatever else a laptop does (measured: 20 against 280 tokens a second beside another process).
_SHARING = {"OMP_WAIT_POLICY": "PASSIVE"}
REQUEST, RESULT, CONSOLE, TOKEN = "request.json", "result.json", "console.log", "progress-token"


@dataclass(slots=True)
class StageProcess:
    """A running stage; `scratch` is its working folder with request, result and console output."""

    name: str
    request: StageRequest
    scratch: Path
    process: subprocess.Popen[bytes]
    started: float
    # By us, while it ran.
    killed: bool = False

    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def ask_to_stop(self) -> None:
        """SIGTERM to the stage alone: it ends its own children and saves what it can."""
        if not self.ended():
            self.process.terminate()

    def kill(self) -> None:
        """SIGKILL to the stage and everything that it started."""
        if not self.ended():
            self.killed = True
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait()

    def result(self) -> StageResult:
        """What the ended stage answered; what it could not say follows from how it ended."""
        code = self.process.wait()
        path = self.scratch / RESULT
        if path.exists():
            try:
                return StageResult.model_validate_json(path.read_bytes())
            except ValidationError:
                pass
        failure = failure_of(_died(self, code), self.request.stage)
        return StageResult(stage=self.request.stage, failure=failure, seconds=time.monotonic() - self.started)

    def clean_up(self) -> None:
        """Remove the scratch folder; what counts is in the store."""
        shutil.rmtree(self.scratch, ignore_errors=True)


def start(name: str, request: StageRequest, scratch: Path, environment: Mapping[str, str]) -> StageProcess:
    """Start a stage in a session of its own, so that a Ctrl-C of the terminal reaches only the runner."""
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / RESULT).unlink(missing_ok=True)
    (scratch / REQUEST).write_text(request.model_dump_json(by_alias=True, exclude_none=True))
    command = [sys.executable, "-m", "tunesmith_trainer", request.stage.value, "--request", REQUEST, "--result", RESULT]
    with (scratch / CONSOLE).open("ab") as console:
        process = subprocess.Popen(
            command,
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # From the scratch folder a relative path of the user's would lead elsewhere.
            env={**_SHARING, **os.environ, **named_folders(), PARENT: str(os.getpid()), **environment},
        )
    return StageProcess(name, request, scratch, process, time.monotonic())


def _died(stage: StageProcess, code: int) -> StageFailure:
    """The failure of a stage that ended without a result (P26: -9 without our doing is the kernel's OOM killer)."""
    name, console = stage.name, stage.scratch / CONSOLE
    if code == -signal.SIGTERM or (code == -signal.SIGKILL and stage.killed):
        return StageFailure(FailureClass.INTERRUPTED, f"{name} was ended before it could save")
    if code == -signal.SIGKILL:
        return StageFailure(FailureClass.OUT_OF_MEMORY, f"{name} was killed, most likely since memory ran out")
    known = next((failure for failure, rule in FAILURES.items() if rule.exit_code == code), FailureClass.INTERNAL)
    tail = console.read_text(errors="replace").strip().splitlines()[-1:] if console.exists() else []
    return StageFailure(known, f"{name} ended with code {code} and no result: {''.join(tail)[:300]}")
