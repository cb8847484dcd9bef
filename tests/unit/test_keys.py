"""Keys are frozen: a release that changes one by accident would make every user's artifacts again."""

import json
from pathlib import Path

import pytest

from support.builders import a_plan, a_spec
from tunesmith_api.keys import canonical_json

GOLDEN = Path(__file__).parent.parent / "golden" / "keys.json"

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
