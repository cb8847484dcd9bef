"""Whole runs of the command line on the real SmolLM2, small enough for a test."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from support.models import smollm2
from tunesmith.cache import cache_dir

ROWS = Path(__file__).parents[2] / "examples" / "data" / "street-reports.jsonl"


def manifest(**changes: Any) -> dict[str, Any]:
    """A job that really trains, for a few steps, and whose gates a barely trained model passes."""
    spec: dict[str, Any] = {
        "model": {"source": f"file://{smollm2()}"},
        "datasets": [{"source": f"file://{ROWS}"}],
        "evaluation": {"percent": 14, "prompts": 6, "metric": "Labels", "chunks": 4},
        "training": {"maxSteps": 4, "effectiveBatchSize": 8, "maxSequenceLength": 128, "learningRate": 0.001},
        "imatrix": {"chunks": 8},
        "gates": {
            "maxPerplexityIncrease": 10,
            "maxLogPerplexityIncrease": 1,
            "maxScoreDrop": 1,
            "maxLossIncrease": 10,
            "minAnswersClean": 0,
        },
        "quantizations": ["Q4_K_M"],
    }
    metadata = {"name": "small"}
    return {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata, "spec": spec | changes}


@dataclass(frozen=True)
class Ran:
    """How a command ended: its code, what it wrote, and its events if they were asked for."""

    code: int
    stdout: str
    stderr: str
    events: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, code: int, stdout: str, stderr: str) -> "Ran":
        """With the events that stand in what was written."""
        events = [json.loads(line) for line in stdout.splitlines() if line.startswith('{"event"')]
        return cls(code, stdout, stderr, events)

    def started(self) -> list[str]:
        """The stages that were started as processes, in order."""
        return [event["stage"] for event in self.events if event["event"] == "started"]


def tunesmith(*arguments: str | Path, **environment: str) -> Ran:
    """Run a command of the command line to its end."""
    command = [sys.executable, "-c", "from tunesmith.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    return Ran.of(done.returncode, done.stdout, done.stderr)


def all_cores() -> set[int]:
    """The cores of the whole test run, of which a worker has its share (tests/conftest.py)."""
    return os.sched_getaffinity(os.getppid())


@contextlib.contextmanager
def on_all_cores() -> Iterator[None]:
    """Within it, what is started may use every core."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, all_cores())
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def run_command(folder: Path, job: dict[str, Any], store: Path | str) -> list[str]:
    """The arguments of ``tunesmith run`` as a person gives them; manifest and output are below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return ["run", str(path), "--output", str(folder / "out"), "--store", str(store)]


def run_job(folder: Path, job: dict[str, Any], *more: str, **environment: str) -> Ran:
    """``tunesmith run --json`` with everything of it below `folder`: manifest, store and output."""
    store = environment.pop("STORE", str(folder / "store"))
    return tunesmith(*run_command(folder, job, store), "--json", *more, **environment)


def record(folder: Path) -> dict[str, Any]:
    """What the output folder of a run below `folder` remembers of its job."""
    return dict(json.loads((folder / "out" / ".tunesmith" / "status.json").read_text()))


def started_by(pid: int) -> list[psutil.Process]:
    """Every process that a process has started, and those that these have started."""
    return [child for child in psutil.Process(pid).children(recursive=True) if child.is_running()]


class Running:
    """A ``tunesmith run --json`` under way, in a process group of its own."""

    def __init__(self, folder: Path, job: dict[str, Any], store: Path) -> None:
        self.folder = folder
        program = "from tunesmith.cli import main; main()"
        arguments = [*run_command(folder, job, store), "--json"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.events: list[dict[str, Any]] = []

    def work_folder(self, stage: str) -> Path:
        """Where a stage of this run, which has begun, works."""
        return cache_dir() / "scratch" / str(record(self.folder)["uid"]) / stage / "work"

    def stages(self) -> list[psutil.Process]:
        """Every process that the run has started, and those that these have started."""
        return started_by(self.process.pid)

    def kill_all(self) -> None:
        """SIGKILL to the runner and all that it started, at one moment: a power cut as far as they can tell."""
        os.kill(self.process.pid, signal.SIGSTOP)
        for process in self.stages():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        os.kill(self.process.pid, signal.SIGKILL)
        self.end(timeout=300)

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read events up to the first that is wanted; it must come."""
        found = self.next_or_end(wanted)
        if found is None:
            raise AssertionError(f"ended with {self.process.wait()} before it came; last: {self.events[-3:]}")
        return found

    def next_or_end(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        """Read events up to the first that is wanted; None if the run ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith('{"event"'):
                self.events.append(json.loads(line))
                if wanted(self.events[-1]):
                    return self.events[-1]
        return None

    def end(self, *, timeout: float) -> int:
        """Wait for the end; its exit code."""
        self.process.communicate(timeout=timeout)
        return self.process.returncode


def trained_steps(at_least: int) -> Callable[[dict[str, Any]], bool]:
    """Whether an event says that training has reached a step."""

    def reached(event: dict[str, Any]) -> bool:
        step = (event.get("metrics") or {}).get("current_step")
        return event.get("stage") == "train" and step is not None and int(step) >= at_least

    return reached
