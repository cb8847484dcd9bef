"""What a stage's pod is asked: the request of contract 1, from plan, spec and the operator's settings."""

from typing import Any

from tunesmith_api.execution import train_execution
from tunesmith_api.plan import PlannedStage
from tunesmith_api.spec import JobSpec
from tunesmith_api.stages import JobReference, Stage, StageRequest
from tunesmith_api.status import StageStatus
from tunesmith_operator.course import Course
from tunesmith_operator.pod import CLAIMS, METRICS_PORT, SECRETS
from tunesmith_operator.settings import OperatorSettings
from tunesmith_operator.storing import store_of
from tunesmith_operator.world import World


def request_of(
    world: World, course: Course, stage: PlannedStage, status: StageStatus, settings: OperatorSettings
) -> StageRequest:
    """The request; ValueError where neither the job nor the operator names a store."""
    first = course.resolved is None and stage.stage is Stage.PREPARE
    return StageRequest(
        stage=stage.stage,
        job=JobReference(name=world.name, namespace=world.namespace, uid=world.uid),
        store=store_of(world, settings),
        inputs=stage.inputs,
        outputs=() if first else stage.outputs,
        settings={} if first else stage.settings,
        execution=_execution(world.spec, stage.stage),
        secrets=SECRETS,
        metrics_port=METRICS_PORT if stage.stage is Stage.TRAIN else None,
        replace=status.replace,
    )


def _execution(spec: JobSpec, stage: Stage) -> dict[str, Any]:
    if stage is Stage.PREPARE:
        return {"spec": spec.model_dump(mode="json", by_alias=True, exclude_unset=True), "folder": CLAIMS}
    if stage is not Stage.TRAIN:
        return {}
    return train_execution(spec.training, use_gpu=spec.training.gpu is not None).to_json_dict()
