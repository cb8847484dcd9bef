"""What convert decides without any model: scales of adapters, model folders, provenance, agreement, known limits."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from support.conversion import convert_settings
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.conversion.lora import (
    PREFIX,
    llama_cpp_alpha,
    llama_cpp_factor,
    lora_modules,
    peculiarities,
    scale_of,
)
from tunesmith_trainer.conversion.model_folder import intended_template, model_folder
from tunesmith_trainer.conversion.provenance import base_metadata, model_name, tuned_metadata
from tunesmith_trainer.conversion.task import few_of
from tunesmith_trainer.parity.logits import RIGHT, SEQUENCE, Agreement, compare, sequences, shortcomings

MODULE = "model.layers.0.self_attn.q_proj"
RANKS = {f"{PREFIX}{MODULE}.lora_A.weight": 8, f"{PREFIX}{MODULE}.lora_B.weight": 8}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param({"lora_alpha": 16}, 2.0, id="alpha / rank"),
        pytest.param({"lora_alpha": 16, "use_rslora": True}, 16 / math.sqrt(8), id="alpha / sqrt(rank)"),
        pytest.param({"lora_alpha": 16, "alpha_pattern": {"q_proj": 4}}, 0.5, id="a layer's own alpha"),
        pytest.param({"lora_alpha": 16, "alpha_pattern": {"proj": 4}}, 2.0, id="a pattern begins at a dot"),
        pytest.param({"lora_alpha": 16, "alpha_pattern": {r"layers\.1\..*": 4}}, 2.0, id="another layer's alpha"),
    ],
)
def test_an_adapters_scale(config: dict[str, Any], expected: float) -> None:
    """The scale is PEFT's, for every way of stating it."""
    assert scale_of(config, MODULE, 8) == expected


@pytest.mark.parametrize("config", [{"lora_alpha": 16, "use_rslora": True}, {"lora_alpha": 12.5}, {"lora_alpha": 16}])
def test_llama_cpp_comes_to_the_same_scale(config: dict[str, Any]) -> None:
    """P50: with the integer alpha that is written and B multiplied by the factor, alpha / rank is the right scale."""
    (module,) = lora_modules(config, RANKS)
    alpha = llama_cpp_alpha(config)

    assert isinstance(alpha, int)
    assert alpha / module.rank * llama_cpp_factor(module, alpha) == pytest.approx(module.scale)


def test_an_adapted_layer_names_the_bases_weight() -> None:
    """PEFT's prefix is taken off."""
    (module,) = lora_modules({"lora_alpha": 16}, RANKS)

    assert module.tensor == f"{MODULE}.weight"


def test_an_a_without_its_b_is_refused() -> None:
    """Half an adapter adds nothing."""
    with pytest.raises(StageFailure, match="has no") as failure:
        lora_modules({"lora_alpha": 16}, {f"{PREFIX}{MODULE}.lora_A.weight": 8})

    assert failure.value.failure is FailureClass.MERGE_INVALID


@pytest.mark.parametrize(
    ("config", "more", "expected"),
    [
        pytest.param({}, [], 0, id="plain"),
        pytest.param({"use_dora": True}, [f"{PREFIX}{MODULE}.lora_magnitude_vector"], 2, id="DoRA"),
        pytest.param({}, [f"{PREFIX}lm_head.weight"], 1, id="a module of its own"),
        pytest.param({"peft_type": "IA3"}, [], 1, id="not LoRA"),
        pytest.param({"init_lora_weights": "pissa_niter_4"}, [], 1, id="a changed base"),
    ],
)
def test_what_makes_an_adapter_more_than_plain_lora(config: dict[str, Any], more: list[str], expected: int) -> None:
    """Each is named, since then neither our sum nor an adapter GGUF is right."""
    assert len(peculiarities(config, [*RANKS, *more])) == expected


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model folder with a template of its own, a stale one, and a file that could run code."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "stale", "eos_token": "</s>"}))
    (folder / "chat_template.jinja").write_text("fresh")
    (folder / "modeling_custom.py").write_text("raise SystemExit")
    (folder / "model.safetensors").write_text("base")
    (folder / "model.safetensors.index.json").write_text("{}")
    return folder


def test_the_converter_sees_our_weights_and_the_bases_other_files(base: Path, tmp_path: Path) -> None:
    """P35: tokenizer files are the base's own; weights, and no Python file and no index, are not.

    P48: so is the description, whose rope scaling the converter needs as it was published.
    """
    scaled = json.dumps({"rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}})
    (base / "config.json").write_text(scaled)
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_text("merged")
    (weights / "config.json").write_text(json.dumps({"rope_parameters": {"rope_type": "default"}}))

    folder = model_folder(base, weights, tmp_path / "into", "Model-1B")

    assert folder.name == "Model-1B"
    assert (folder / "model.safetensors").read_text() == "merged"
    assert (folder / "config.json").read_text() == scaled
    assert (folder / "tokenizer.json").resolve() == (base / "tokenizer.json").resolve()
    assert not list(folder.glob("*.py"))
    assert not list(folder.glob("*.index.json"))


def test_a_stale_template_does_not_win(base: Path, tmp_path: Path) -> None:
    """P41: the converter would prefer tokenizer_config.json, transformers reads the .jinja file."""
    folder = model_folder(base, base, tmp_path / "into", "Model-1B")

    assert intended_template(base) == "fresh"
    assert json.loads((folder / "tokenizer_config.json").read_text()) == {"eos_token": "</s>"}
    assert json.loads((base / "tokenizer_config.json").read_text())["chat_template"] == "stale"


def test_the_default_of_several_templates_is_meant(base: Path) -> None:
    """Where a model has templates by name, the one called default is the one that is used."""
    (base / "chat_template.jinja").unlink()
    templates = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    (base / "tokenizer_config.json").write_text(json.dumps({"chat_template": templates}))

    assert intended_template(base) == "plain"


def test_a_model_without_template_has_none(base: Path) -> None:
    """A base model for plain text."""
    (base / "chat_template.jinja").unlink()
    (base / "tokenizer_config.json").write_text("{}")

    assert intended_template(base) is None


def test_a_path_of_this_machine_never_becomes_provenance() -> None:
    """P74: of a local model only its name and digest are told."""
    metadata = tuned_metadata(convert_settings(base_source="file:///home/ada/models/tiny"), "tiny")

    assert "/home" not in json.dumps(metadata)
    assert metadata["general.base_models"][0]["name"] == "tiny"


def test_the_base_is_described_by_itself_alone() -> None:
    """Its artifact is keyed by its digest: two jobs share it whatever their data and addresses."""
    assert base_metadata("sha256:1", "tiny") == {"general.description": "tiny (sha256:1), converted by Tunesmith"}


@pytest.mark.parametrize(
    ("meta", "source", "expected"),
    [
        ("Phi-3.5-mini-instruct", "file:///x/base", "Phi-3.5-mini-instruct"),
        (None, "hf://microsoft/Phi-3.5-mini-instruct", "Phi-3.5-mini-instruct"),
        (None, "s3://models/a b/", "a-b"),
    ],
)
def test_a_model_is_called_by_its_own_name(meta: str | None, source: str, expected: str) -> None:
    """llama.cpp knows Phi-3's tokenizer by this name, so it must not be a folder's of ours."""
    assert model_name(meta, source) == expected


def test_sequences_hold_exactly_the_positions_asked_for() -> None:
    """Rows are cut to the window and the last one to what is left."""
    rows = list(sequences([[1] * 300, [], [2] * 100, [3] * 900], 400))

    assert [len(row) for row in rows] == [SEQUENCE, 100, 44]
    assert few_of(rows) == rows[:1]


def test_equal_distributions_agree_and_shifted_logits_are_equal() -> None:
    """A constant added to all logits changes no probability."""
    torch = pytest.importorskip("torch", reason="needs the trainer's packages")
    right = torch.randn(50, 30, generator=torch.Generator().manual_seed(0))

    found = compare([(right, right + 3)])

    assert found.same_top == 1
    assert found.mean_kl == pytest.approx(0, abs=1e-6)
    assert shortcomings(found, RIGHT) == []


@pytest.mark.parametrize(("apart", "same"), [(0.05, 1.0), (0.2, 0.0)])
def test_of_two_tokens_that_are_equally_likely_either_is_right(apart: float, same: float) -> None:
    """Another processor rounds otherwise; what the right model prefers clearly is another matter."""
    torch = pytest.importorskip("torch", reason="needs the trainer's packages")
    right, judged = torch.tensor([[apart, 0.0, -9.0]]), torch.tensor([[0.0, 0.01, -9.0]])

    assert compare([(right, judged)]).same_top == same


def test_a_number_that_is_none_agrees_with_nothing() -> None:
    """A NaN must not slip through a comparison that is false both ways."""
    torch = pytest.importorskip("torch", reason="needs the trainer's packages")
    right = torch.zeros(2, 4)
    broken = right.clone()
    broken[1, 2] = math.nan

    found = compare([(right, broken)])

    assert found.mean_kl == math.inf
    assert any("KL divergence" in each for each in shortcomings(found, RIGHT))


def test_the_divergence_is_the_textbooks() -> None:
    """KL(p, q) of two coins in nats."""
    torch = pytest.importorskip("torch", reason="needs the trainer's packages")
    p, q = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.5, 0.5]])

    found = compare([(p.log(), q.log())])

    assert found.mean_kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


@pytest.mark.parametrize(
    ("found", "count"),
    [(Agreement(9, 1.0, 0.0, 0.0), 0), (Agreement(9, 0.9, 0.0, 0.0), 1), (Agreement(9, math.nan, math.nan, 0.0), 2)],
)
def test_each_missed_tolerance_is_named(found: Agreement, count: int) -> None:
    """What is not a number misses every tolerance."""
    assert len(shortcomings(found, RIGHT)) == count
