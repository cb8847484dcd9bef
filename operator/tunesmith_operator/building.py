"""From a stage and its record to the batch/v1 Job that runs it, sized by the plan's own estimates."""

from dataclasses import dataclass
from typing import Any

from tunesmith_api.effective import resolve_settings
from tunesmith_api.keys import canonical_json
from tunesmith_api.needs import GIBIBYTE, grace_seconds, memory_bytes, scratch_bytes
from tunesmith_api.plan import PlannedStage
from tunesmith_api.stages import ProgressEndpoint, Stage
from tunesmith_api.status import StageStatus
from tunesmith_operator.asking import request_of
from tunesmith_operator.course import Course
from tunesmith_operator.deadline import seconds_left
from tunesmith_operator.given import given
from tunesmith_operator.placing import claims, placed, secret_names, with_gpu
from tunesmith_operator.pod import JobIdentity, StagePlace, pod_template, stage_job
from tunesmith_operator.settings import OperatorSettings
from tunesmith_operator.storing import store_of
from tunesmith_operator.world import World

# Before its sources are resolved nothing is known of a job: room for the packages' own needs and a small model; what a
# larger one needs is said in spec.stages, or for all jobs in the operator's placement.
_UNKNOWN_SCRATCH, _UNKNOWN_MEMORY, _UNKNOWN_GRACE = 20 * GIBIBYTE, 2 * GIBIBYTE, 30


@dataclass(frozen=True, slots=True)
class Builder:
    """Makes the Jobs of all stages by the operator's settings; `progress` is where their pods tell how far they are."""

    settings: OperatorSettings
    progress: ProgressEndpoint | None = None

    def job(self, world: World, course: Course, stage: PlannedStage, status: StageStatus) -> dict[str, Any]:
        """The Job that is wanted now; ValueError where no store is named anywhere."""
        request = request_of(world, course, stage, status, self.settings)
        request = request.model_copy(update={"progress": self.progress})
        where = self._place(world, course, stage)
        identity = _identity(world, course, stage, status, given(stage.stage, world.spec, where, self.settings))
        template = pod_template(request, identity, where, self.settings)
        return stage_job(template, identity, world.spec.backoff_limit, seconds_left(world))

    def _place(self, world: World, course: Course, stage: PlannedStage) -> StagePlace:
        spec, name = world.spec, stage.stage
        place = placed(name, spec, self.settings)
        if name is Stage.TRAIN:
            place = with_gpu(place, spec, self.settings)
        scratch, memory, grace = _UNKNOWN_SCRATCH, _UNKNOWN_MEMORY, _UNKNOWN_GRACE
        if course.resolved is not None:
            values = resolve_settings(world.name, spec, course.resolved)
            scratch = scratch_bytes(stage, course.resolved, values)
            memory = memory_bytes(stage, course.resolved, values, gpu=spec.training.gpu is not None)
            grace = grace_seconds(stage, course.resolved, values)
        return StagePlace(
            place=place,
            secrets=secret_names(name, spec, store_of(world, self.settings)),
            claims=claims(spec) if name is Stage.PREPARE else (),
            scratch_bytes=scratch,
            memory_bytes=memory,
            grace_seconds=grace,
        )


def _identity(world: World, course: Course, stage: PlannedStage, status: StageStatus, digests: str) -> JobIdentity:
    return JobIdentity(
        name=course.job_name_of(stage),
        owner=world.name,
        uid=world.uid,
        namespace=world.namespace,
        stage=stage.name,
        keys=canonical_json(stage.recorded_keys().to_json_dict()).decode(),
        turn=status.turn,
        given=digests,
        limit=world.spec.active_deadline_seconds,
    )
