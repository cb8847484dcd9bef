"""Keys are frozen: a release that changes one by accident would make every user's artifacts again."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support.builders import a_plan, a_spec
from tunesmith.llama_cpp.pin import PIN
from tunesmith_api.keys import LLAMA_CPP, RECIPES, canonical_json

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
