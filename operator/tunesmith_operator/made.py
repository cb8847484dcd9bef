"""What a job has made, out of the results in its record: for whoever reads the object and not the store."""

from collections.abc import Iterable, Mapping
from typing import Any

from tunesmith_api.plan import Plan, PlannedStage
from tunesmith_api.quantizations import file_name
from tunesmith_api.stages import Stage
from tunesmith_api.status import ArtifactStatus, StageState, StageStatus


def artifacts_of(job: str, plan: Plan, stages: Iterable[StageStatus]) -> tuple[ArtifactStatus, ...]:
    """The quantized files of all stages that are done, in the order of the plan; with verdicts once publish has judged.

    What the others made is found by the keys of their stages, and their figures in their results.
    """
    done = {stage.name: stage for stage in stages if stage.state is StageState.DONE}
    verdicts = _judged(done.values()).get("verdicts") or {}
    return tuple(
        _of_stage(job, planned, done[planned.name], verdicts)
        for planned in plan.stages
        if planned.stage is Stage.QUANTIZE and planned.name in done
    )


def summary_of(stages: Iterable[StageStatus]) -> str:
    """How many of the files passed their gates; empty until publish has judged them."""
    figures = _judged(stages)
    return f"{figures['passed']}/{figures['files']}" if {"passed", "files"} <= figures.keys() else ""


def _judged(stages: Iterable[StageStatus]) -> Mapping[str, Any]:
    """What publish has said, once it is done."""
    told = (stage.result for stage in stages if stage.name == Stage.PUBLISH and stage.state is StageState.DONE)
    return next((result.figures for result in told if result is not None), {})


def _of_stage(job: str, planned: PlannedStage, stage: StageStatus, verdicts: Mapping[str, str]) -> ArtifactStatus:
    """Its file, under the key that is recorded."""
    [output] = planned.outputs
    keys = {} if stage.keys is None else stage.keys.outputs
    told = {} if stage.result is None else stage.result.figures
    name = str(output.name)
    return ArtifactStatus(
        name=name,
        key=keys.get(output.kind, output.key),
        verdict=verdicts.get(name, ""),
        file=file_name(job, name),
        bytes=_whole(told.get("bytes")),
        sha256=str(told.get("sha256", "")),
        figures=_plain(told),
    )


# They have fields of their own.
_TOLD = ("bytes", "sha256")


def _plain(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name not in _TOLD}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
