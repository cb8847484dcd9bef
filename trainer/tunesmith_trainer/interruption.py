"""How a stage is asked to stop: SIGTERM and a first Ctrl-C end it where it is, or at the end of its training step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import Stage


@dataclass(slots=True)
class Interruption:
    """Whether `stage` is to stop (`asked`), and whether it looks at that itself after each step (`awaits_step`)."""

    stage: Stage
    asked: threading.Event = field(default_factory=threading.Event)
    awaits_step: bool = False

    def await_step(self) -> None:
        """From now on there are steps to save: no longer raise, wherever the stage is, but wait for the step's end."""
        self.awaits_step = True

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Heed both signals within this block; raises Interrupted at the first, unless steps are awaited."""
        before: dict[signal.Signals, Any] = {}
        for name in (signal.SIGTERM, signal.SIGINT):
            before[name] = signal.signal(name, self._stop)
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        already = self.asked.is_set()
        self.asked.set()
        if not self.awaits_step and not already:
            raise StageFailure(FailureClass.INTERRUPTED, f"{self.stage} was asked to stop")
