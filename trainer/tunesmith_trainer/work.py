"""What the frame hands to a stage and what a stage hands back; a stage knows folders, never the store."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tunesmith.llama_cpp import Tools
from tunesmith.store import Manifest
from tunesmith_api.stages import ArtifactReference, Kind, StageRequest

# Less is fetched before anybody wonders.
_TOLD_BYTES = 100_000_000


class Progress(Protocol):
    """Where a stage says how far it is."""

    def __call__(self, fraction: float, metrics: Mapping[str, float | int | str] | None = None) -> None:
        """`fraction` of the stage's work that is done, 0 to 1; `metrics` by name, e.g. loss, current_step.

        A metric `phase` names what begins now (empty: the work itself); the time left is told by the pace since then.
        """


def moving(word: str, size: int) -> dict[str, str]:
    """The metrics that say what is on its way between store, sources and here; `size` in bytes, told from 0.1 GB on."""
    return {"phase": f"{word} {size / 1e9:.1f} GB" if size >= _TOLD_BYTES else word}


class Checkpoints(Protocol):
    """Where training keeps what it can go on from; whole or absent, the newest two."""

    def save(self, step: int, folder: Path) -> None:
        """Store `folder` as the checkpoint of `step`; returns when it is whole."""

    def newest(self, into: Path) -> tuple[int, Path] | None:
        """The newest whole checkpoint as (step, local folder), else None; what is damaged is passed over."""


@dataclass(frozen=True, slots=True)
class Work:
    """One stage's work: its request, verified read-only inputs, and a scratch folder of its own.

    `inputs` are keyed by kind; `named` holds the inputs of a kind that a stage reads several of (publish: one
    ``quantized`` per type), keyed by (kind, name); `manifests` says of every input what it is made
    of. `interrupted` is set by SIGTERM and by a first Ctrl-C, which also raise Interrupted wherever the stage is, until
    it says with `await_step` that it looks at `interrupted` after each of its steps.
    """

    request: StageRequest
    inputs: Mapping[Kind, Path]
    scratch: Path
    progress: Progress
    interrupted: threading.Event
    tools: Callable[[], Tools]
    await_step: Callable[[], None] = lambda: None
    named: Mapping[tuple[Kind, str], Path] = field(default_factory=dict)
    meta: Mapping[Kind, Mapping[str, Any]] = field(default_factory=dict)
    manifests: Mapping[ArtifactReference, Manifest] = field(default_factory=dict)
    checkpoints: Checkpoints | None = None
    secrets: Path | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """A finished artifact: its folder (given away to the store) and what its manifest says of it."""

    folder: Path
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage made, by kind, and its headline figures (small: they travel in the result, contract 5)."""

    outputs: Mapping[Kind, Output]
    figures: Mapping[str, Any] = field(default_factory=dict)


class StageEntry(Protocol):
    """The one entry of a stage's module, called ``run``."""

    def __call__(self, work: Work) -> Outcome:
        """Do the work; raises StageFailure."""
