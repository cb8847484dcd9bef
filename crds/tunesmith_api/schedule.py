"""Which stages to start next, and which made an artifact: pure functions of plan and what is done."""

from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from tunesmith_api.plan import Plan, PlannedStage
from tunesmith_api.stages import ArtifactReference, Kind


def ready(plan: Plan, done: Collection[str], running: Collection[str], limit: int) -> tuple[PlannedStage, ...]:
    """The stages to start now, in the plan's order, so that at most `limit` run at once."""
    free = max(limit - len(running), 0)
    return tuple(islice(startable(plan, done, running), free))


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
