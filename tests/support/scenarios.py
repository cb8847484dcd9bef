"""The scenarios of tests/manifests/scenarios.yaml, and who plays them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from support.builders import a_spec
from support.small_cluster import ROWS
from tunesmith_api.failures import FailureClass
from tunesmith_api.spec import JobSpec
from tunesmith_api.status import JobStatus, Phase, StageState

_FILE = Path(__file__).parents[1] / "manifests" / "scenarios.yaml"
# A Job makes no second pod of its own, so that what fails has failed.
SPEC: JobSpec = a_spec(datasets=ROWS, quantizations=["Q8_0"], backoffLimit=0)


class Players(Protocol):
    """A cluster with one job of `SPEC`, whose operator is at work whenever something happens."""

    def until(self, stage: str) -> None:
        """All goes well until that stage works."""

    def fail(self, stage: str, failure: FailureClass) -> None:
        """The stage says that it has failed."""

    def kill(self, stage: str) -> None:
        """The kernel kills it for its memory limit."""

    def evict(self, stage: str) -> None:
        """Its pod is taken away; its Job makes another."""

    def lose(self, stage: str) -> None:
        """It ends well, and nobody hears what it said."""

    def withhold(self, stage: str) -> None:
        """It ends well, and says that a gate has failed."""

    def vanish(self, stage: str) -> None:
        """Somebody deletes its Job."""

    def edit(self, **changes: Any) -> None:
        """A user edits the spec."""

    def retry(self, value: str) -> None:
        """A user asks for it."""

    def rest(self) -> JobStatus:
        """All goes well until nothing more happens."""

    def made(self) -> Iterable[str]:
        """The stage of each Job that was ever made."""


@dataclass(frozen=True)
class Scenario:
    """What happens, and how it ends."""

    name: str
    steps: tuple[Mapping[str, Any], ...]
    phase: str
    failure: str | None = None
    again: tuple[str, ...] = ()

    def play(self, players: Players) -> None:
        """Do it, and compare the end; AssertionError where it is another."""
        for step in self.steps:
            _do(players, step)
        status = players.rest()
        assert status.phase == self.phase, status.message
        assert (status.failure.failure if status.failure else None) == self.failure
        if self.phase == Phase.COMPLETE:
            assert {stage.state for stage in status.stages} == {StageState.DONE}
        made = Counter(players.made())
        assert made == Counter(made.keys()) + Counter(self.again)
        assert not {stage.name for stage in status.stages if stage.state is StageState.WAITING} & made.keys()


def _do(players: Players, step: Mapping[str, Any]) -> None:
    [verb, *_] = step
    about = step[verb]
    if verb == "edit":
        players.edit(**about)
    elif verb == "rest":
        status = players.rest()
        assert status.phase == about, status.message
    elif verb == "fail":
        players.fail(about, FailureClass(step["class"]))
    else:
        getattr(players, verb)(about)


SCENARIOS = tuple(
    Scenario(**{key: tuple(value) if isinstance(value, list) else value for key, value in each.items()})
    for each in yaml.safe_load(_FILE.read_text())
)
