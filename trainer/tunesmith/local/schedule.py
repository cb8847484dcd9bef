"""Which stages to start next, and which to repeat: pure functions of plan, what is done and what failed."""

from collections.abc import Collection

from tunesmith_api.plan import Plan, PlannedStage
from tunesmith_api.stages import ArtifactReference


def ready(plan: Plan, done: Collection[str], running: Collection[str], limit: int) -> tuple[PlannedStage, ...]:
    """The stages to start now, in the plan's order, so that at most `limit` run at once."""
    free = limit - len(running)
    startable = (
        stage
        for stage in plan.stages
        if stage.name not in done and stage.name not in running and all(need in done for need in stage.needs)
    )
    return tuple(stage for stage, _ in zip(startable, range(max(free, 0)), strict=False))


def maker(plan: Plan, artifact: ArtifactReference) -> PlannedStage | None:
    """The stage that makes an artifact, None if no stage of this plan does."""
    for stage in plan.stages:
        if any((output.kind, output.key) == (artifact.kind, artifact.key) for output in stage.outputs):
            return stage
    return None


def dependents(plan: Plan, name: str) -> frozenset[str]:
    """The stages that need `name`, directly or through others."""
    found: set[str] = set()
    for stage in plan.stages:
        if any(need == name or need in found for need in stage.needs):
            found.add(stage.name)
    return frozenset(found)
