"""What the family files say, how a model's family is found, and that no fact stands without a source."""

from importlib import resources

import pytest
import yaml
from pydantic import ValidationError

from tunesmith_api import families
from tunesmith_api.families import Family

SMOLLM2 = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 49152}
CHATML = "{{ '<|im_start|>' + message['role'] }}<|im_end|>"


def _raw(name: str) -> dict[str, object]:
    return yaml.safe_load(resources.files(families).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", families.names())
def test_every_file_is_a_valid_family_that_carries_its_own_name(name: str) -> None:
    """A family file can be read, and a stage that names it gets it."""
    family = families.load(name)

    assert family.name == name
    assert family.training.learning_rate.of("LoRA") > family.training.learning_rate.of("Full")


def test_smollm2_is_recognised_by_configuration_and_template() -> None:
    """The model's own config.json and chat template lead to its file."""
    assert families.identify(SMOLLM2, CHATML) == "smollm2"


def test_a_base_variant_without_template_is_of_its_family_too() -> None:
    """The dimensions decide where there is no template to ask."""
    assert families.identify(SMOLLM2, None) == "smollm2"


@pytest.mark.parametrize(
    ("change", "template"),
    [({"vocab_size": 32000}, CHATML), ({"model_type": "qwen2"}, CHATML), ({}, "[INST] {{ content }} [/INST]")],
)
def test_a_model_that_differs_in_one_mark_is_not_taken_for_the_family(change: dict[str, object], template: str) -> None:
    """A relative with another vocabulary, type or chat format falls back to the generic family."""
    assert families.identify(SMOLLM2 | change, template) == families.GENERIC


def test_the_generic_family_says_what_could_not_be_known() -> None:
    """The report can name what an unknown family leaves open."""
    assert len(families.load(families.GENERIC).unknown) >= 3


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    """A stage that asks for a family without a file learns which there are."""
    with pytest.raises(KeyError, match="smollm2"):
        families.load("no-such-family")


def test_a_fact_without_a_source_is_refused() -> None:
    """Adding a family means saying where each fact was found."""
    raw = _raw("smollm2")
    del raw["sources"]["eotTokens"]

    with pytest.raises(ValidationError, match="no source for eotTokens"):
        Family.model_validate(raw)


def test_a_misspelt_fact_is_refused() -> None:
    """A typing error in a family file does not become a silently missing fact."""
    with pytest.raises(ValidationError, match="stopString"):
        Family.model_validate(_raw("smollm2") | {"stopString": []})


def test_no_family_pads_with_a_token_that_ends_an_answer() -> None:
    """P4: a padding token that ends answers teaches the model not to stop."""
    for name in families.names():
        family = families.load(name)
        assert not set(family.pad_candidates) & set(family.eot_tokens)
