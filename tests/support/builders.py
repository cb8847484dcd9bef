"""Valid by default: a spec, its resolved sources, a plan; a test names only what it is about."""

from typing import Any

from tunesmith_api.plan import Plan, make_plan
from tunesmith_api.resolved import ModelDimensions, Resolved, ResolvedDataset, ResolvedModel
from tunesmith_api.spec import JobSpec
from tunesmith_api.status import RecordedKeys

MODEL = {"source": "hf://org/model"}
DATASETS = [{"source": "file://rows.jsonl"}]


def a_spec(**changes: Any) -> JobSpec:
    """The smallest spec, with top-level fields changed."""
    return JobSpec.model_validate({"model": MODEL, "datasets": DATASETS} | changes)


def dimensions(**changes: Any) -> ModelDimensions:
    """SmolLM2-135M's."""
    values: dict[str, Any] = {
        "architecture": "LlamaForCausalLM",
        "modelType": "llama",
        "hiddenSize": 576,
        "intermediateSize": 1536,
        "layers": 30,
        "heads": 9,
        "kvHeads": 3,
        "headDim": 64,
        "vocabSize": 49152,
        "maxPositionEmbeddings": 8192,
        "parameters": 134_515_008,
        "bytes": 269_060_552,
        "dtype": "bfloat16",
    }
    return ModelDimensions.model_validate(values | changes)


def resolved(spec: JobSpec, **model: Any) -> Resolved:
    """What the sources of `spec` could have turned out to be."""
    facts: dict[str, Any] = {
        "uri": spec.model.source,
        "name": "model",
        "revision": "0" * 40,
        "digest": "sha256:" + "a" * 64,
        "family": "smollm2",
        "chat": True,
        "dimensions": dimensions(),
    }
    held_out = spec.evaluation.dataset
    return Resolved(
        model=ResolvedModel.model_validate(facts | model),
        datasets=tuple(
            ResolvedDataset(uri=dataset.source, digest=f"sha256:{index:064d}", size=1000)
            for index, dataset in enumerate(spec.datasets)
        ),
        evaluation=None
        if held_out is None
        else ResolvedDataset(uri=held_out.source, digest="sha256:" + "e" * 64, size=9),
        adapter=None
        if spec.model.adapter is None
        else ResolvedDataset(uri=spec.model.adapter, digest="sha256:" + "d" * 64, size=9),
    )


def a_plan(spec: JobSpec | None = None, recorded: dict[str, RecordedKeys] | None = None) -> Plan:
    """The plan of a spec."""
    spec = spec or a_spec()
    return make_plan("job", spec, resolved(spec), recorded)


def record_of(plan: Plan, *names: str) -> dict[str, RecordedKeys]:
    """As if these stages (default: all) had results."""
    return {stage.name: stage.recorded_keys() for stage in plan.stages if not names or stage.name in names}
