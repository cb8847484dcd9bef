"""What a job has made, out of the results in its record: for whoever reads the object and not the store."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tunesmith_api.plan import Plan, PlannedStage
from tunesmith_api.quantizations import file_name
from tunesmith_api.stages import Kind, Stage
from tunesmith_api.status import ArtifactStatus, StageState, StageStatus


def artifacts_of(job: str, plan: Plan, stages: Iterable[StageStatus]) -> tuple[ArtifactStatus, ...]:
    """The artifacts of all stages that are done, in the order of the plan; a file's verdict once publish has judged."""
    done = {stage.name: stage for stage in stages if stage.state is StageState.DONE}
    verdicts = _judged(done.values()).get("verdicts") or {}
    return tuple(
        artifact
        for planned in plan.stages
        if planned.name in done
        for artifact in _of_stage(job, planned, done[planned.name], verdicts)
    )


def summary_of(stages: Iterable[StageStatus]) -> str:
    """How many of the files passed their gates; empty until publish has judged them."""
    figures = _judged(stages)
    return f"{figures['passed']}/{figures['files']}" if {"passed", "files"} <= figures.keys() else ""


def _judged(stages: Iterable[StageStatus]) -> Mapping[str, Any]:
    """What publish has said, once it is done."""
    told = (stage.result for stage in stages if stage.name == Stage.PUBLISH and stage.state is StageState.DONE)
    return next((result.figures for result in told if result is not None), {})


def _of_stage(
    job: str, planned: PlannedStage, stage: StageStatus, verdicts: Mapping[str, str]
) -> Iterator[ArtifactStatus]:
    """Its outputs under the keys that are recorded; the figures are those of the first, which the stage is about."""
    keys = {} if stage.keys is None else stage.keys.outputs
    figures = {} if stage.result is None else stage.result.figures
    for number, output in enumerate(planned.outputs):
        told = figures if number == 0 else {}
        quantized = output.kind is Kind.QUANTIZED
        name = str(output.name or "")
        yield ArtifactStatus(
            kind=output.kind,
            name=name,
            key=keys.get(output.kind, output.key),
            verdict=verdicts.get(name, "") if quantized else "",
            file=file_name(job, name) if quantized else "",
            bytes=_whole(told.get("bytes")),
            sha256=str(told.get("sha256", "")),
            figures={} if output.kind is Kind.PUBLICATION else _plain(told),
        )


# They have fields of their own.
_TOLD = ("bytes", "sha256")


def _plain(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name not in _TOLD}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
