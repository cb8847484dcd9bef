"""A planned job is carried out on this machine: stages that are not done become processes, their results a record."""

import contextlib
import queue
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.cores import usable_cores
from tunesmith.local.listener import ProgressListener
from tunesmith.local.processes import CONSOLE, TOKEN, StageProcess, start
from tunesmith.local.record import Record, write_record
from tunesmith.published_names import OWN_FOLDER
from tunesmith.store import Artifacts
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.plan import Plan, PlannedStage
from tunesmith_api.progress import ProgressReport
from tunesmith_api.schedule import Room, maker, ready
from tunesmith_api.stages import (
    Failure,
    JobReference,
    Stage,
    StageRequest,
    StageResult,
    StoreLocation,
    failure_of,
)

# How often the runner looks whether a process has ended; a finished stage waits half of this on average.
_POLL_SECONDS = 0.05
# A second Ctrl-C: how long stages may still take before they are killed. With the kill this stays within 5 seconds.
_LAST_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person may want to see: a stage started, reported, ended, or is asked to stop."""

    what: str
    stage: str
    report: ProgressReport | None = None
    result: StageResult | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """Where a job runs: output folder, scratch, store, room for stages, and what they find in their environment."""

    job: JobReference
    output: Path
    scratch: Path
    location: StoreLocation
    artifacts: Artifacts
    secrets: Path | None
    room: Room
    execution: Callable[[PlannedStage], dict[str, Any]]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Run:
    """A job under way. `stop` may be called from a signal handler, once to save and end, twice to end at once."""

    plan: Plan
    record: Record
    site: Site
    tell: Callable[[Event], None]
    deadline: float | None = None  # seconds from now
    stops: int = 0
    failure: Failure | None = None
    _began: float = field(default_factory=time.monotonic)
    _running: dict[str, StageProcess] = field(default_factory=dict)
    # No SimpleQueue: before Python 3.13 its get() waits for ever if a signal's handler outlasts the timeout.
    _events: "queue.Queue[ProgressReport]" = field(default_factory=queue.Queue)
    _mended: set[str] = field(default_factory=set)
    _listener: ProgressListener | None = None

    def stop(self) -> None:
        """Ask the running stages to save and end; the second time they are given a few seconds."""
        self.stops += 1

    def is_training(self) -> bool:
        """Whether the stage runs that saves when it is asked to stop; for signal handlers too."""
        return Stage.TRAIN in self._running

    def carry_out(self) -> Record:
        """Run what is not done, to the end or to the first failure; the record says which."""
        self._listener = ProgressListener(self._events.put)
        self._listener.start()
        try:
            self._loop()
        finally:
            for process in self._running.values():
                process.kill()
            self._listener.close()
        return self.record

    def _loop(self) -> None:
        asked = 0
        while True:
            if self.stops > asked:
                asked = self.stops
                self._end_all(at_once=asked > 1)
            self._keep_to_the_deadline()
            if not (self.stops or self.failure) and self._begin_what_is_ready():
                continue
            if not self._running:
                return
            self._hear()
            for name, process in list(self._running.items()):
                if process.ended():
                    del self._running[name]
                    self._finish(self.plan.stage(name), process)

    def _keep_to_the_deadline(self) -> None:
        if self.deadline is None or self.stops or self.failure or time.monotonic() - self._began < self.deadline:
            return
        message = f"the job did not end within {self.deadline:.0f} s; what it has made is kept"
        hint = "Run the same command again: it goes on from here. Or raise spec.activeDeadlineSeconds."
        self.failure = failure_of(StageFailure(FailureClass.DEADLINE, message, hint))
        self._end_all(at_once=False)

    def _begin_what_is_ready(self) -> bool:
        """Start as many stages as may run; true if one was found done, so that others may be ready now."""
        done = len(self.record.stages)
        for stage in ready(self.plan, self.record.stages.keys(), self._running.keys(), self.site.room):
            self._begin(stage)
        return len(self.record.stages) > done

    def _begin(self, stage: PlannedStage) -> None:
        found = None if stage.name in self.record.repeat else self._found(stage)
        if found is not None:
            self._keep(stage, found)
            return
        scratch = self.site.scratch / stage.name
        scratch.mkdir(parents=True, exist_ok=True)
        assert self._listener is not None  # noqa: S101  # carry_out made it
        request = StageRequest(
            stage=stage.stage,
            job=self.site.job,
            store=self.site.location,
            inputs=stage.inputs,
            outputs=stage.outputs,
            settings=stage.settings,
            execution=self.site.execution(stage),
            secrets=None if self.site.secrets is None else str(self.site.secrets),
            progress=self._listener.endpoint(stage.name, scratch / TOKEN),
            replace=stage.name in self.record.repeat,
        )
        self._running[stage.name] = start(stage.name, request, scratch, self.site.environment)
        self.tell(Event("started", stage.name))

    def _found(self, stage: PlannedStage) -> StageResult | None:
        """The result of a stage whose artifacts are all in the store already; it replaces them if one is damaged.

        publish is asked in any case: that its artifact is there does not say that it is under this job's name in the
        store, or on the hub. Only a process that ended well says so, and the record then.
        """
        if stage.stage is Stage.PUBLISH:
            return None
        figures: dict[str, Any] = {}
        for output in reversed(stage.outputs):
            try:
                manifest = self.site.artifacts.find(output.kind, output.key)
            except StageFailure as error:
                if not self.mend(failure_of(error), stage.name):
                    raise
                return None
            if manifest is None:
                return None
            figures = manifest.meta.get("figures") or {}
        return StageResult(stage=stage.stage, name=stage.variant, reused=True, figures=figures)

    def _keep(self, stage: PlannedStage, result: StageResult) -> None:
        self.record = self.record.with_result(self.plan, stage.name, result)
        write_record(self.site.output, self.record)
        self.tell(Event("done", stage.name, result=result))

    def _finish(self, stage: PlannedStage, process: StageProcess) -> None:
        result = process.result()
        self._save_console(stage.name, process)
        if result.failure is None:
            process.clean_up()
            self._keep(stage, result)
            return
        self.tell(Event("failed", stage.name, result=result))
        if self.mend(result.failure, stage.name):
            return
        if self.failure is None or self.failure.failure is FailureClass.INTERRUPTED:
            self.failure = result.failure.model_copy(update={"stage": stage.stage})
        self._end_all(at_once=False)

    def mend(self, failure: Failure, found_by: str = "") -> bool:
        """Let the maker of a damaged artifact run once more, and what needs it after that (contract 3).

        False: that is not the failure, or it would not help. The record remembers it until it is done.
        """
        stage = None if failure.artifact is None else maker(self.plan, failure.artifact)
        if stage is None or failure.failure is not FailureClass.ARTIFACT_CORRUPT:
            return False
        if stage.name in self.record.repeat:
            return stage.name != found_by  # two have found the same damage: both wait for one repair
        if stage.name in self._mended:
            return False
        self._mended.add(stage.name)
        self.record = self.record.damaged(stage.name)
        write_record(self.site.output, self.record)
        return True

    def _hear(self) -> None:
        try:
            report = self._events.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return
        self.tell(Event("progress", report.stage, report=report))

    def _end_all(self, *, at_once: bool) -> None:
        for process in self._running.values():
            process.ask_to_stop()
            self.tell(Event("stopping", process.name))
        if at_once:
            for process in self._running.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.process.wait(_LAST_SECONDS / len(self._running))
            for process in self._running.values():
                process.kill()

    def _save_console(self, name: str, process: StageProcess) -> None:
        """The stage's console output stays in the output folder: it is what a person looks at when something failed."""
        logs = self.site.output / OWN_FOLDER / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        source = process.scratch / CONSOLE
        if source.exists():
            shutil.copyfile(source, logs / f"{name}.log")


def stages_at_once(cores: int | None = None) -> int:
    """How many stages run side by side: each of llama.cpp's tools fills all cores, but starting and reading do not."""
    return 2 if (cores or usable_cores()) >= 2 else 1  # noqa: PLR2004
