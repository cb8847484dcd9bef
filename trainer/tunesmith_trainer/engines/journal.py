"""The training's log: one JSON object per line and event; it travels with checkpoints, a resumed run goes on in it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Journal:
    """Appends events to log.jsonl; what a resumed run finds there counts as its own.

    Training events: step, epoch, loss, learningRate, gradNorm, tokens (of this step, without padding),
    tokensPerSecond, seconds (spent in steps so far, over all attempts), memoryBytes (peak so far).
    Evaluation events: step, epoch, evalLoss (nats per supervised token).
    """

    path: Path
    _evaluations: list[tuple[int, float]] = field(init=False)

    def __post_init__(self) -> None:
        """Read once what an earlier attempt has measured: a log of many steps is long."""
        self._evaluations = [found for event in self.events() if (found := _evaluation(event)) is not None]

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event; it is on disk when this returns."""
        if (found := _evaluation(event)) is not None:
            self._evaluations.append(found)
        with self.path.open("a") as file:
            file.write(json.dumps({name: _finite(value) for name, value in event.items()}) + "\n")

    def events(self) -> list[dict[str, Any]]:
        """All events so far; a line that a kill cut short is left out."""
        if not self.path.is_file():
            return []
        return [event for line in self.path.read_text().splitlines() if (event := _parsed(line)) is not None]

    def evaluations(self) -> list[tuple[int, float]]:
        """(step, evaluation loss) in order; asked for at every step."""
        return self._evaluations

    def seconds(self) -> float:
        """Seconds spent in steps so far."""
        return max((float(event.get("seconds", 0.0)) for event in self.events()), default=0.0)


def training_figures(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Headline figures of a log: trainLoss is the mean loss of its last tenth of steps, tokensPerSecond over all."""
    steps = [event for event in events if event.get("loss") is not None]
    if not steps:
        return {}
    last = steps[-math.ceil(len(steps) / 10) :]
    tokens, seconds = sum(event["tokens"] for event in steps), max(event["seconds"] for event in steps)
    return {
        "trainLoss": sum(event["loss"] for event in last) / len(last),
        "firstLoss": steps[0]["loss"],
        "tokens": tokens,
        "seconds": seconds,
        "tokensPerSecond": tokens / seconds if seconds else None,
        "peakMemoryBytes": max(event["memoryBytes"] for event in steps),
    }


def _evaluation(event: Mapping[str, Any]) -> tuple[int, float] | None:
    return None if event.get("evalLoss") is None else (event["step"], event["evalLoss"])


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
