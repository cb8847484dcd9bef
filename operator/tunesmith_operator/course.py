"""Which stages a job has and which Job each runs in, before its sources are resolved and after."""

from dataclasses import dataclass

from tunesmith_api.plan import Plan, PlannedStage, make_plan
from tunesmith_api.resolved import Resolved
from tunesmith_api.schedule import startable
from tunesmith_api.stages import ArtifactReference, Kind, Stage
from tunesmith_api.status import JobStatus, RecordedKeys
from tunesmith_operator.names import job_name, sources_key
from tunesmith_operator.world import World


@dataclass(frozen=True, slots=True)
class Course:
    """The plan of a job; while `resolved` is unset it has the one stage that resolves."""

    job: str
    plan: Plan
    sources: str
    resolved: Resolved | None

    def key_of(self, stage: PlannedStage) -> str:
        """What a stage's Job is named by: prepare's cannot be its output's key, which it finds itself."""
        return self.sources if stage.stage is Stage.PREPARE else stage.key

    def job_name_of(self, stage: PlannedStage) -> str:
        """The name of a stage's Job."""
        return job_name(self.job, stage.stage, self.key_of(stage))

    def startable(self, done: set[str], running: set[str]) -> tuple[PlannedStage, ...]:
        """The stages that nothing in the plan keeps from starting."""
        return tuple(startable(self.plan, done, running))


def course_of(world: World, status: JobStatus) -> Course:
    """The stages of a job as its status stands: recorded keys hold, everything else follows from the spec."""
    sources = sources_key(world.spec)
    if status.resolved is None:
        return Course(world.name, Plan(stages=(_first(sources),)), sources, None)
    resolved = Resolved.model_validate(status.resolved)
    plan = make_plan(world.name, world.spec, resolved, _begun(world) | status.recorded_keys())
    return Course(world.name, plan, sources, resolved)


def _begun(world: World) -> dict[str, RecordedKeys]:
    """The keys of stages whose Job was made before the status could say so; prepare's are known once it is done."""
    jobs = sorted(world.own_jobs, key=lambda job: job.created)
    return {job.stage: job.keys for job in jobs if job.keys is not None and job.stage != Stage.PREPARE}


def _first(sources: str) -> PlannedStage:
    return PlannedStage(
        name=Stage.PREPARE,
        stage=Stage.PREPARE,
        inputs=(),
        outputs=(ArtifactReference(kind=Kind.DATASET, key=sources),),
        settings={},
        asked=sources,
        needs=(),
    )
