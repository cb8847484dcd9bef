"""Which stages to start next, and which made an artifact: pure functions of plan and what is done."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from tunesmith_api.plan import Plan, PlannedStage
from tunesmith_api.stages import ArtifactReference, Kind


@dataclass(frozen=True, slots=True)
class Room:
    """What a machine has for stages side by side: so many at once, within so many bytes; `needs` are by stage."""

    at_once: int
    memory_bytes: float = math.inf
    needs: Mapping[str, int] = field(default_factory=dict)

    def takes(self, name: str, running: Collection[str]) -> bool:
        """Whether a stage may start beside those that run; one alone may in any case, and says itself what it lacks."""
        together = sum(self.needs.get(each, 0) for each in (*running, name))
        return not running or (len(running) < self.at_once and together <= self.memory_bytes)

    def hungriest(self, names: Collection[str]) -> tuple[str, int]:
        """Which of these stages needs most memory, and its bytes; of none ("", 0)."""
        return max(((name, self.needs[name]) for name in names), key=lambda each: each[1], default=("", 0))


def ready(plan: Plan, done: Collection[str], running: Collection[str], room: Room) -> tuple[PlannedStage, ...]:
    """The stages to start now, in the plan's order."""
    chosen: list[PlannedStage] = []
    for stage in startable(plan, done, running):
        if room.takes(stage.name, [*running, *(each.name for each in chosen)]):
            chosen.append(stage)
    return tuple(chosen)


def startable(plan: Plan, done: Collection[str], running: Collection[str]) -> Iterator[PlannedStage]:
    """The stages that nothing keeps from starting.

    A stage waits for those that it needs and for the makers of all that it reads: one of them may run once more, since
    what it made was found damaged.
    """
    makers = {(output.kind, output.key): stage.name for stage in plan.stages for output in stage.outputs}
    for stage in plan.stages:
        if stage.name not in done and stage.name not in running and _waits_for(stage, makers) <= set(done):
            yield stage


def maker(plan: Plan, artifact: ArtifactReference) -> PlannedStage | None:
    """The stage that makes an artifact, None if no stage of this plan does."""
    for stage in plan.stages:
        if any((output.kind, output.key) == (artifact.kind, artifact.key) for output in stage.outputs):
            return stage
    return None


def _waits_for(stage: PlannedStage, makers: Mapping[tuple[Kind, str], str]) -> set[str]:
    read = ((item.kind, item.key) for item in stage.inputs)
    return {*stage.needs, *(makers[item] for item in read if item in makers)}
