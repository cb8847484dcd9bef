"""Every field of a spec with some values of it, for tests that draw specs; a spec of them, and its plan.

`FIXED` are the fields that contract 8 does not let change, `FREE` the others. None: the field is absent. All values go
together with each other.
"""

from typing import Any

from hypothesis import strategies as st

from support.builders import resolved
from tunesmith_api.plan import Plan, make_plan
from tunesmith_api.spec import JobSpec

SECRETS = [None, {"name": "x"}]
FIXED: dict[str, list[Any]] = {
    "model.source": ["hf://a/model", "hf://a/other"],
    "model.revision": [None, "v2"],
    "model.adapter": [None, "hf://a/adapter"],
    "datasets": [[{"source": "hf://a/rows"}], [{"source": "hf://a/rows", "weight": 2}], [{"source": "hf://a/others"}]],
    "evaluation.dataset": [None, {"source": "hf://a/held-out"}, {"source": "hf://a/held-out", "split": "test"}],
    "evaluation.percent": [None],
    "onInvalidRows": [None, "Fail", "Drop"],
    "onTooLong": [None, "TruncateTurns"],
    "store": [None, {"uri": "s3://bucket/x"}],
    "training.method": ["LoRA", "QLoRA"],
    "training.engine": [None, "Auto", "Transformers", "Unsloth"],
    "training.epochs": [None, 2],
    "training.maxSteps": [None, 5],
    "training.maxSequenceLength": [None, 64],
    "training.learningRate": [None, 0.5],
    "training.scheduler": [None, "Linear"],
    "training.warmupRatio": [None, 0],
    "training.weightDecay": [None, 0.5],
    "training.optimizer": [None, "Auto", "AdamW", "PagedAdamW8bit"],
    "training.effectiveBatchSize": [None, 4],
    "training.packing": [None, True],
    "training.systemPrompt": [None, {"mode": "None"}, {"mode": "Text", "text": "a"}],
    "training.seed": [None, 1],
    "training.evalEvery": [None, 3],
    "training.keepBest": [None, True],
    "training.earlyStopping": [None, {}, {"patience": 1}],
    "training.lora": [None, {}, {"dropout": 0.1}],
}
FREE: dict[str, list[Any]] = {
    "model.secretRef": SECRETS,
    "evaluation.prompts": [None, 3],
    "evaluation.metric": [None, "ChrF"],
    "evaluation.chunks": [None, 20],
    "training.gpu": [None, {"memory": "8Gi"}, {"product": "A"}],
    "training.batchSize": [None, 2],
    "training.gradientCheckpointing": [None, True, False],
    "training.saveEvery": [None, 7],
    "quantizations": [None, ["Q8_0"]],
    "imatrix": [None, {"mode": "Always"}, {"chunks": 3}],
    "gates": [None, {"maxKLDivergence": 0.1}],
    "publish": [None, {"hub": {"repo": "a/bc"}}],
    "stages": [None, [{"name": "train", "nodeSelector": {"a": "b"}}]],
    "targets": [None, ["phone"]],
    "suspend": [None, True],
    "priority": [None, 3],
    "backoffLimit": [None, 0],
    "activeDeadlineSeconds": [None, 60],
    "ttlSecondsAfterFinished": [None, 0],
}


def drawn(table: dict[str, list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """One value for every field of a table."""
    return st.fixed_dictionaries({path: st.sampled_from(values) for path, values in table.items()})


def spec_of(fields: dict[str, Any]) -> dict[str, Any]:
    """The spec as a manifest has it."""
    spec: dict[str, Any] = {}
    for path, value in fields.items():
        section, _, name = path.rpartition(".")
        if value is not None:
            (spec.setdefault(section, {}) if section else spec)[name] = value
    return spec


def plan_of(fields: dict[str, Any]) -> Plan:
    """The plan of such a spec; every source has its own digest."""
    spec = JobSpec.model_validate(spec_of(fields))
    pinned = resolved(spec, digest=f"{spec.model.source} {spec.model.revision}")
    datasets = tuple(dataset.model_copy(update={"digest": dataset.uri}) for dataset in pinned.datasets)
    return make_plan("job", spec, pinned.model_copy(update={"datasets": datasets}))
