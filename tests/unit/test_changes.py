"""Contract 8 as a property: a change that the rules let pass leaves the key of train, and those of its inputs.

tests/manifests/changes.yaml has one row per field; here fields meet each other, for example a GPU with a method.
"""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.builders import resolved
from support.manifests import manifest
from tunesmith.cel import violations
from tunesmith_api.generate.crd import job_schema
from tunesmith_api.plan import make_plan
from tunesmith_api.spec import JobSpec

SECRETS = [None, {"name": "x"}]
# None: the field is absent. All values go together with each other.
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


# Mostly nothing of what is fixed: a single such field has a row of its own in the table of changes.
NOTHING: dict[str, Any] = {}
ONE_FIXED = st.sampled_from(sorted(FIXED)).flatmap(lambda path: drawn({path: FIXED[path]}))
FIXED_CHANGE = st.one_of(st.just(NOTHING), st.just(NOTHING), st.just(NOTHING), ONE_FIXED)


def spec_of(fields: dict[str, Any]) -> dict[str, Any]:
    """The spec as a manifest has it."""
    spec: dict[str, Any] = {}
    for path, value in fields.items():
        section, _, name = path.rpartition(".")
        if value is not None:
            (spec.setdefault(section, {}) if section else spec)[name] = value
    return spec


def made_of(fields: dict[str, Any]) -> dict[str, str]:
    """The keys of training, of its inputs, and of the conversion of its weights; every source has its own digest."""
    spec = JobSpec.model_validate(spec_of(fields))
    pinned = resolved(spec, digest=f"{spec.model.source} {spec.model.revision}")
    datasets = tuple(dataset.model_copy(update={"digest": dataset.uri}) for dataset in pinned.datasets)
    plan = make_plan("job", spec, pinned.model_copy(update={"datasets": datasets}))
    return {out.kind: out.key for name in ("prepare", "train", "convert") for out in plan.stage(name).outputs}


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """cel-python sets Python's recursion limit when it is first used, which Hypothesis would warn of."""
    violations(manifest({}))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(drawn(FIXED), FIXED_CHANGE, drawn(FREE), drawn(FREE))
def test_a_change_that_is_let_pass_trains_nothing_again(
    fixed: dict[str, Any], change: dict[str, Any], before: dict[str, Any], after: dict[str, Any]
) -> None:
    """What is recorded for train must be what the changed spec asks for (contract 2 keeps such a key always)."""
    old, new = fixed | before, fixed | change | after
    if made_of(old) != made_of(new):
        assert violations(manifest(spec_of(new)), manifest(spec_of(old)))


def test_every_field_takes_part() -> None:
    """A new field must be put on one side."""
    spec = job_schema()["properties"]["spec"]["properties"]
    sections = ("model", "evaluation", "training")
    paths = {f"{section}.{name}" for section in sections for name in spec[section]["properties"]}
    assert paths | (spec.keys() - set(sections)) == FIXED.keys() | FREE.keys()
