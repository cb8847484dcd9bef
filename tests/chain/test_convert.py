"""convert for real: SmolLM2 cut to six layers (the whole model is marked slow), an adapter, full weights, neither."""

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from support.conversion import (
    NAME,
    Converted,
    convert_settings,
    convert_work,
    converted,
    made_adapter,
    prepared_dataset,
)
from support.gguf_mutations import set_scalar
from support.models import cut
from tunesmith.llama_cpp import Tools, find_tools
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import Kind
from tunesmith_trainer.conversion.adapter_folder import adapter_folder
from tunesmith_trainer.conversion.weights import load_model
from tunesmith_trainer.conversion.write import end_turns
from tunesmith_trainer.convert import run
from tunesmith_trainer.llama.converter import adapter_conversion, convert, vocabulary_conversion
from tunesmith_trainer.llama.gguf_file import read_gguf
from tunesmith_trainer.llama.libllama import log_probs, masked_loss
from tunesmith_trainer.llama.server import Serving, serve
from tunesmith_trainer.parity.forward import logits
from tunesmith_trainer.parity.logits import RIGHT, SEQUENCE, compare
from tunesmith_trainer.parity.template import read_probes, rendering_findings
from tunesmith_trainer.parity.tokens import TokenParity, compare_tokens
from tunesmith_trainer.parity.verify import llama_logits, open_model

pytest.importorskip("torch", reason="needs the trainer's packages")

# A model of random weights with six layers, the period of Gemma 3's pattern of layers.
TINY: dict[str, Any] = {
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
    "pad_token_id": 0,
}


@pytest.fixture(
    scope="module", params=[pytest.param(6, id="six layers"), pytest.param(None, id="whole", marks=pytest.mark.slow)]
)
def made(request: pytest.FixtureRequest) -> Converted:
    """One run of convert with an adapter, the base converted too."""
    return converted(request.param)


@pytest.fixture(scope="module")
def tools() -> Tools:
    """llama.cpp."""
    return find_tools()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers: enough where only the way through the stage counts."""
    return cut(converted(6).base, 2, tmp_path_factory.mktemp("models") / "two-layers")


def test_the_tuned_model_becomes_a_gguf_that_agrees_with_transformers(made: Converted) -> None:
    """Merge, template, tokens and next-token distributions are measured, and all are well within tolerance."""
    figures = json.loads((made.gguf / "figures.json").read_text())

    assert figures["logits"]["positions"] >= 1000
    assert figures["logits"]["klDivergence"]["mean"] < RIGHT.mean_kl / 4
    assert figures["logits"]["sameTop"] > RIGHT.same_top
    assert figures["merge"]["changed"] == figures["merge"]["targeted"] > 0
    assert figures["merge"]["agreement"]["klDivergence"] < 0.05 * figures["merge"]["adapterEffect"]["klDivergence"]
    assert figures["merge"]["exact"]["klDivergence"] < 1e-6
    assert figures["adapter"]["made"]
    assert figures["tokens"] == {"compared": 15, "equal": 15, "known": {}}
    assert figures["template"] == {"equal": True, "rendered": 15}
    assert figures["eos"] == "<|im_end|>"


def test_the_base_is_converted_and_verified_by_itself(made: Converted) -> None:
    """Its GGUF says nothing of the job's data, and what was measured of it is general text only."""
    file = read_gguf(made.base_gguf / "model.gguf")
    figures = json.loads((made.base_gguf / "figures.json").read_text())

    assert figures["logits"]["klDivergence"]["mean"] < RIGHT.mean_kl / 4
    assert set(figures) & {"merge", "tokens", "adapter"} == set()
    assert not [key for key in file.metadata if key.startswith("general.dataset")]
    assert "c" * 64 not in str(file.metadata["general.description"])


def test_what_it_was_made_of_stands_in_the_gguf_and_nothing_of_this_machine(made: Converted) -> None:
    """P74: base with revision, dataset digests and method; no job, no path, and the model's own name."""
    metadata = read_gguf(made.gguf / "model.gguf").metadata
    everything = json.dumps({key: value for key, value in metadata.items() if "tokenizer" not in key})

    assert metadata["general.name"] == NAME
    assert metadata["general.base_model.0.url"] == f"hf://HuggingFaceTB/{NAME}"
    assert metadata["general.base_model.0.version"] == "a" * 40
    assert metadata["general.dataset.0.name"] == "sha256:" + "c" * 64
    assert "tuned with LoRA" in metadata["general.description"]
    assert "my-job" not in everything
    assert str(made.gguf.parent) not in everything


def test_the_merged_folder_does_not_outlive_the_conversion(made: Converted) -> None:
    """P62: it is as large as the model, and nothing reads it any more."""
    assert not (made.gguf.parent / "merged").exists()
    assert made.posts.seen == sorted(made.posts.seen)


def test_without_adapter_the_base_is_converted_as_it_is(small: Path, tmp_path: Path) -> None:
    """training.method None, no adapter: quantizing and measuring a model that somebody else made."""
    dataset = prepared_dataset(tmp_path / "dataset", small)
    inputs = {Kind.BASE: small, Kind.DATASET: dataset}

    folder = run(convert_work(inputs, tmp_path / "scratch", convert_settings(method="None"))).outputs[Kind.GGUF].folder

    figures = json.loads((folder / "figures.json").read_text())
    assert figures["merge"] == {"method": "none"}
    assert figures["logits"]["klDivergence"]["mean"] < RIGHT.mean_kl


@pytest.mark.slow
def test_the_same_inputs_give_the_same_gguf(small: Path, tmp_path: Path) -> None:
    """Neither a job's name nor a time nor a folder enters the file."""
    dataset = prepared_dataset(tmp_path / "dataset", small)
    files = []
    for place in ("one", "two"):
        work = convert_work(
            {Kind.BASE: small, Kind.DATASET: dataset}, tmp_path / place, convert_settings(method="None")
        )
        folder = run(work).outputs[Kind.GGUF].folder
        files.append((folder / "model.gguf").read_bytes())

    assert files[0] == files[1]


def test_full_weights_are_taken_as_they_are(small: Path, tmp_path: Path) -> None:
    """A fully fine-tuned model in float32 is converted with the base's tokenizer and compared with itself."""
    import torch

    model = load_model(small).float()
    torch.manual_seed(3)
    for weight in model.parameters():
        weight.data += 0.02 * weight.data.std() * torch.randn_like(weight)
    model.save_pretrained(str(tmp_path / "full"))
    dataset = prepared_dataset(tmp_path / "dataset", small)
    inputs = {Kind.BASE: small, Kind.ADAPTER: tmp_path / "full", Kind.DATASET: dataset}

    folder = run(convert_work(inputs, tmp_path / "scratch", convert_settings(method="Full"))).outputs[Kind.GGUF].folder

    figures = json.loads((folder / "figures.json").read_text())
    assert figures["merge"]["method"] == "full"
    assert figures["merge"]["changed"] == figures["merge"]["tensors"]
    assert figures["adapter"] == {"made": False, "reason": "there is no adapter"}
    assert figures["logits"]["klDivergence"]["mean"] < RIGHT.mean_kl


def test_an_adapter_that_scales_in_its_own_way_becomes_a_right_gguf(
    made: Converted, tools: Tools, tmp_path: Path
) -> None:
    """P50: llama.cpp knows alpha / rank only; rank-stabilised LoRA and single layers' alphas are folded into B."""
    from peft import PeftModel

    adapter = made_adapter(
        tmp_path / "adapter", made.base, strength=0.03, use_rslora=True, alpha_pattern={"layers.1.mlp.up_proj": 5.5}
    )
    ready = adapter_folder(adapter, tmp_path / "ready", f"{NAME}-LoRA")
    gguf = tmp_path / "adapter.gguf"
    convert([adapter_conversion(tools, ready, made.source, gguf)], threading.Event(), tmp_path)
    rows = made.rows[:2]
    base = load_model(made.base)
    plain = [logits(base, row) for row in rows]
    adapted = PeftModel.from_pretrained(base, str(adapter)).eval()
    wanted = [logits(adapted, row) for row in rows]

    with open_model(tools, made.base_gguf / "model.gguf") as model:
        model.apply_adapter(gguf, 1.0)
        found = compare(zip(wanted, llama_logits(model, rows), strict=True))

    assert found.mean_kl < RIGHT.mean_kl
    assert compare(zip(plain, wanted, strict=True)).mean_kl > 10 * RIGHT.mean_kl
    assert read_gguf(gguf).metadata["adapter.lora.alpha"] == 16


def test_the_loss_of_given_tokens_is_that_of_transformers(made: Converted, tools: Tools) -> None:
    """Masked loss through libllama equals a hand-computed cross entropy over the same supervised tokens."""
    import torch

    rows = [(row, [0] * (len(row) // 2) + [1] * (len(row) - len(row) // 2)) for row in made.rows[:3]]
    wanted = []
    for (ids, mask), right in zip(rows, made.tuned_logits, strict=False):
        scored = torch.log_softmax(right, -1)
        wanted.append(-sum(float(scored[at - 1, ids[at]]) for at in range(1, len(ids)) if mask[at]))

    found = masked_loss(tools, made.gguf / "model.gguf", rows, 2, 256)

    assert found.tokens == sum(sum(mask) for _, mask in rows)
    assert [row.total for row in found.per_row] == pytest.approx(wanted, rel=0.005)
    assert found.mean == pytest.approx(sum(wanted) / found.tokens, rel=0.005)


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3", "Gemma2", "Gemma3", "Phi3", "SmolLM3"])
def test_weights_in_16_bits_predict_as_in_float32(family: str) -> None:
    """Widening one module at a time gives the logits of the whole model in float32, and leaves the model alone."""
    import copy

    import torch
    import transformers

    config = getattr(transformers, {"Gemma3": "Gemma3TextConfig"}.get(family, f"{family}Config"))
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config(**TINY)).to(torch.bfloat16).eval()
    ids = list(range(5, 69))
    with torch.inference_mode():
        wanted = copy.deepcopy(model).float()(torch.tensor([ids]), use_cache=False).logits[0]
        rounded = model(torch.tensor([ids]), use_cache=False).logits[0].float()

    found = logits(model, ids)

    assert float((found - wanted).abs().max()) < 1e-4
    assert float((rounded - wanted).abs().max()) > 1e-3
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


def test_attention_scores_that_have_a_limit_keep_it(tmp_path: Path) -> None:
    """P20: fused attention leaves Gemma 2's limit out, so that a right GGUF would differ from what it is held against.

    A limit far below the scores of random weights, and compared in float32: in a real model the difference is small.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.Gemma2Config(**TINY, attn_logit_softcapping=0.1)
    transformers.Gemma2ForCausalLM(config).to(torch.bfloat16).save_pretrained(str(tmp_path))
    ids = list(range(5, 69))
    model = load_model(tmp_path)
    found = logits(model, ids)

    def computed_by(name: str) -> Any:
        model.set_attn_implementation(name)  # type: ignore[operator]  # transformers' own
        return logits(model, ids)

    assert float((found - computed_by("eager")).abs().max()) < 1e-5
    assert float((found - computed_by("sdpa")).abs().max()) > 1e-2


def test_a_template_that_writes_the_bos_that_the_vocabulary_adds_too_gives_one(
    made: Converted, tools: Tools, tmp_path: Path
) -> None:
    """P44: as in Llama 3, Gemma and Mistral; llama-server takes the text's own off and puts a token in its place."""
    adding = set_scalar(made.gguf / "model.gguf", tmp_path / "model.gguf", "tokenizer.ggml.add_bos_token", 1)
    probes = read_probes(json.loads((made.dataset / "probes.json").read_text()))[:2]
    bos = read_gguf(adding).token_id("bos")
    assert {probe.ids[0] for probe in probes} == {bos}
    with open_model(tools, adding) as model:
        assert model.vocabulary.adds_bos
        assert compare_tokens(model, probes) == TokenParity(2, {}, [])

    with serve(tools, adding, Serving(SEQUENCE, 1), threading.Event()) as server:
        assert rendering_findings(server, probes, "<|im_start|>") == (2, [])
        served = [server.tokenize(server.apply_template(probe.messages)) for probe in probes]

    assert [tuple(ids) for ids in served] == [probe.ids for probe in probes]


def test_log_probabilities_are_probabilities(made: Converted, tools: Tools) -> None:
    """One row for each token, and each row sums to one."""
    import numpy as np

    rows = log_probs(tools, made.gguf / "model.gguf", made.rows[0][:40])

    assert rows.shape == (40, 49152)
    assert np.exp(rows.astype(np.float64)).sum(axis=1) == pytest.approx(np.ones(40), abs=1e-3)
    assert math.isfinite(float(rows.min()))


def test_the_end_of_a_turn_becomes_the_eos(made: Converted, tmp_path: Path) -> None:
    """P46: where the tokenizer names another token, the file is set right; else it is left alone."""
    right = made.gguf / "model.gguf"
    path = set_scalar(right, tmp_path / "model.gguf", "tokenizer.ggml.eos_token_id", 0)

    end_turns(path, ("<|im_end|>",))

    assert read_gguf(path).token_id("eos") == 2
    assert path.read_bytes() == right.read_bytes()


def test_a_quantized_base_is_refused(small: Path, tmp_path: Path) -> None:
    """P31, P43: an adapter is merged into 16-bit weights only."""
    base = cut(small, 1, tmp_path / "base")
    config = json.loads((base / "config.json").read_text()) | {"quantization_config": {"quant_method": "bitsandbytes"}}
    (base / "config.json").write_text(json.dumps(config))

    with pytest.raises(StageFailure, match="quantized") as failure:
        run(convert_work({Kind.BASE: base, Kind.DATASET: tmp_path}, tmp_path / "scratch", convert_settings()))

    assert failure.value.failure is FailureClass.MODEL_INVALID


@pytest.mark.slow
def test_an_unknown_tokenizer_is_unsupported_not_broken(small: Path, tools: Tools, tmp_path: Path) -> None:
    """P38: the converter knows tokenizers by what they make of a text; one that it does not know is said to be so."""
    base = cut(small, 1, tmp_path / "base")
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))

    with pytest.raises(StageFailure, match="cannot convert this model") as failure:
        convert([vocabulary_conversion(tools, base, tmp_path / "vocabulary.gguf", NAME)], threading.Event(), tmp_path)

    assert failure.value.failure is FailureClass.CONVERSION_UNSUPPORTED


def test_an_interruption_ends_the_stage_as_interrupted(small: Path, tmp_path: Path) -> None:
    """Nothing is committed, and the failure says that it was interrupted."""
    dataset = prepared_dataset(tmp_path / "dataset", small)
    inputs: dict[Kind, Any] = {Kind.BASE: small, Kind.DATASET: dataset}
    work = convert_work(inputs, tmp_path / "scratch", convert_settings(), (Kind.GGUF, Kind.BASE_GGUF))
    work.interrupted.set()

    with pytest.raises(StageFailure) as failure:
        run(work)

    assert failure.value.failure is FailureClass.INTERRUPTED
