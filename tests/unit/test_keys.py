"""Keys say what an artifact was made of, no more and no less, and are frozen.

A release that changes one by accident would make every user's artifacts again.
"""

import json
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.builders import a_plan, a_spec
from support.schemas import values
from support.spec_fields import FIXED, FREE, drawn, plan_of
from tunesmith.llama_cpp.pin import PIN
from tunesmith_api.keys import LLAMA_CPP, RECIPES, artifact_key, canonical_json
from tunesmith_api.plan import PlannedStage
from tunesmith_api.schema import Api
from tunesmith_api.settings import (
    BaselineSettings,
    ConvertSettings,
    EvaluateSettings,
    ImatrixSettings,
    PrepareSettings,
    PublishSettings,
    QuantizeSettings,
    TrainSettings,
)
from tunesmith_api.stages import Kind

GOLDEN = Path(__file__).parent.parent / "golden" / "keys.json"
ASKED = GOLDEN.with_name("asked.json")
# One line for each pin of llama.cpp, and for each set of recipes under it, the newest last.
PINS = GOLDEN.with_name("llama_cpp.json")

CASES: dict[str, dict[str, object]] = {
    "smallest": {},
    "one type": {"quantizations": ["Q6_K"]},
    "qlora": {"training": {"method": "QLoRA"}},
    "full": {"training": {"method": "Full", "epochs": 1}},
    "unsloth": {"training": {"engine": "Unsloth"}},
    "wide adapter": {"training": {"lora": {"rank": 64, "rsLora": True}}},
    "two datasets": {"datasets": [{"source": "file://a.jsonl"}, {"source": "s3://b/c.csv", "weight": 0.25}]},
    "held-out dataset": {"evaluation": {"dataset": {"source": "file://eval.jsonl"}, "metric": "ChrF"}},
    "adapter": {"model": {"source": "hf://o/m", "adapter": "hf://o/a"}, "training": {"method": "None"}},
    "system prompt": {"training": {"systemPrompt": {"mode": "Text", "text": "Be brief."}}},
}

MODELS: list[type[Api]] = [PrepareSettings, TrainSettings, ConvertSettings, ImatrixSettings]
MODELS += [BaselineSettings, EvaluateSettings, QuantizeSettings, PublishSettings]
# What each stage is told, as JSON: drawn from the schemas, so that a new setting takes part by itself.
TOLD = {model: values(model.model_json_schema()) for model in MODELS}
FIELDS = FIXED | FREE | {"training.method": ["LoRA", "QLoRA", "Full", "None"]}


@pytest.mark.parametrize("case", CASES)
def test_the_keys_of_ten_manifests_are_frozen(case: str) -> None:
    """Change one on purpose by raising its kind's recipe and renewing tests/golden/keys.json."""
    frozen = json.loads(GOLDEN.read_text())
    plan = a_plan(a_spec(**CASES[case]))

    assert {stage.name: stage.key for stage in plan.stages} == frozen[case]


@pytest.mark.parametrize("case", CASES)
def test_what_a_stage_is_asked_for_is_frozen(case: str) -> None:
    """Decision 0005. Where it changes, an upgraded operator runs the stages of finished jobs again: not by accident."""
    frozen = json.loads(ASKED.read_text())
    plan = a_plan(a_spec(**CASES[case]))

    assert {stage.name: stage.recorded_keys().asked for stage in plan.stages} == frozen[case]


def pinned() -> dict[str, Any]:
    """The pinned llama.cpp, and the recipes of what it makes."""
    return {"pin": f"{PIN.build}-r{PIN.recipe}", "recipes": {kind.value: RECIPES[kind] for kind in LLAMA_CPP}}


def unraised(history: list[dict[str, Any]]) -> list[str]:
    """The kinds that a new llama.cpp made under the recipe of the one before, but where it is said why it may."""
    return [
        kind
        for old, new in pairwise(history)
        for kind, recipe in new["recipes"].items()
        if new["pin"] != old["pin"] and "same" not in new and recipe <= old["recipes"].get(kind, 0)
    ]


def test_a_new_llama_cpp_raises_the_recipes_of_what_it_makes() -> None:
    """Contract 2. Whoever raises pin or recipes adds a line to tests/golden/llama_cpp.json, and changes none."""
    history = json.loads(PINS.read_text())

    assert {name: history[-1][name] for name in ("pin", "recipes")} == pinned()
    assert unraised(history) == []
    assert unraised([*history, pinned() | {"pin": "b99999-0000000-r1"}]) == [kind.value for kind in LLAMA_CPP]


def key_of(told: Api, **inputs: str) -> str:
    return artifact_key(Kind.QUANTIZED, told, inputs)


def shuffled(value: Any, random: Random) -> Any:
    """The same JSON with the names of every object in another order."""
    if isinstance(value, list):
        return [shuffled(item, random) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: shuffled(value[name], random) for name in random.sample(sorted(value), len(value))}


def as_kubernetes_writes_it(value: Any) -> Any:
    """The same JSON where whole numbers have no fraction: Go writes 2.0 as 2."""
    if isinstance(value, list):
        return [as_kubernetes_writes_it(item) for item in value]
    if isinstance(value, dict):
        return {name: as_kubernetes_writes_it(item) for name, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=30)
@given(st.data())
def test_the_order_of_settings_and_inputs_does_not_count(model: type[Api], data: st.DataObject) -> None:
    """Nor that of the settings within a setting."""
    written = data.draw(TOLD[model])
    again = shuffled(written, data.draw(st.randoms(use_true_random=False)))

    first = key_of(model.model_validate(written), base="1", dataset="2")
    assert first == key_of(model.model_validate(again), dataset="2", base="1")


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=30)
@given(st.data())
def test_settings_keep_their_key_through_json(model: type[Api], data: st.DataObject) -> None:
    """As a stage's request has them, and as they would come back from a cluster."""
    told = model.model_validate(data.draw(TOLD[model]))
    text = json.dumps(told.to_json_dict())

    assert key_of(model.model_validate_json(text)) == key_of(told)
    assert key_of(model.model_validate(as_kubernetes_writes_it(json.loads(text)))) == key_of(told)


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=30)
@given(st.data())
def test_every_setting_and_every_input_changes_the_key(model: type[Api], data: st.DataObject) -> None:
    """Each by itself, and only where it really is another value."""
    told, other = (model.model_validate(data.draw(TOLD[model])) for _ in range(2))

    for name in model.model_fields:
        changed = told.model_copy(update={name: getattr(other, name)})
        assert (key_of(changed) == key_of(told)) == (changed == told), name
    assert len({key_of(told), key_of(told, base="1"), key_of(told, base="2"), key_of(told, dataset="1")}) == 4


def question(stage: PlannedStage) -> tuple[object, ...]:
    """What a stage is told and what it reads; prepare brings the base model that it reads into the store itself."""
    return stage.settings, stage.inputs, [output for output in stage.outputs if output.kind is Kind.BASE]


@settings(max_examples=15)
@given(drawn(FIELDS), drawn(FIELDS))
def test_a_change_reaches_what_is_made_of_it_and_nothing_else(fields: dict[str, Any], others: dict[str, Any]) -> None:
    """A stage has another key exactly if it is told or reads something else, so the stages after it have one too."""
    before = plan_of(fields)
    for path in FIELDS:
        for stage in plan_of(fields | {path: others[path]}).stages:
            old = next((old for old in before.stages if old.name == stage.name), stage)
            assert (old.key == stage.key) == (question(old) == question(stage)), (path, stage.name)


def test_one_value_has_one_spelling() -> None:
    """Order of names does not count, and text stays text."""
    assert canonical_json({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'.encode()


def test_what_is_no_number_has_no_key() -> None:
    """A NaN would be another value at every reading."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


if __name__ == "__main__":
    told = {case: {s.name: s.key for s in a_plan(a_spec(**change)).stages} for case, change in CASES.items()}
    GOLDEN.write_text(json.dumps(told, indent=1) + "\n")
