"""Each check of convert fails, clearly, for the mistake that it is there for: real files made wrong on purpose.

Quick on the first six layers of SmolLM2; the same on the whole model is marked slow.
"""

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.conversion import Converted, converted, untied
from support.gguf_mutations import (
    break_number,
    drop_tensor,
    set_scalar,
    set_template,
    swap_query_and_key,
    truncate,
    zero_tensor,
)
from tunesmith.llama_cpp import Tools, find_tools
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.conversion.merge import check_full, check_merge, sums
from tunesmith_trainer.conversion.model_folder import intended_template, model_folder
from tunesmith_trainer.conversion.weights import (
    EXACT,
    check_agreement,
    check_exact,
    check_rounding,
    load_model,
    logits_without,
)
from tunesmith_trainer.llama.converter import convert, model_conversion
from tunesmith_trainer.llama.gguf_file import read_gguf
from tunesmith_trainer.llama.server import Serving, serve
from tunesmith_trainer.parity.forward import logits
from tunesmith_trainer.parity.logits import RIGHT, Agreement, compare
from tunesmith_trainer.parity.template import read_probes, rendering_findings
from tunesmith_trainer.parity.verify import (
    Intended,
    llama_logits,
    open_model,
    verify_adapter,
    verify_ends,
    verify_file,
    verify_logits,
)

pytest.importorskip("torch", reason="needs the trainer's packages")

# How far a wrong file must be from the tolerance, so that a right one can be nowhere near it.
BY_FAR = 5
Mutation = Callable[[Path, Path], Path]
LOGIT_CONTROLS = [
    pytest.param(lambda a, b: swap_query_and_key(a, b, 2), id="q and k of one layer swapped"),
    pytest.param(lambda a, b: set_scalar(a, b, "llama.rope.freq_base", 10_000.0), id="rope base changed"),
    pytest.param(lambda a, b: zero_tensor(a, b, "blk.2.attn_k.weight"), id="one attention tensor zeroed"),
    pytest.param(lambda a, b: zero_tensor(a, b, "blk.3.ffn_gate.weight"), id="one feed-forward tensor zeroed"),
    pytest.param(lambda a, b: zero_tensor(a, b, "blk.3.attn_norm.weight"), id="one norm zeroed"),
]
FILE_CONTROLS = [
    pytest.param(lambda a, b: zero_tensor(a, b, "blk.2.attn_k.weight"), "nothing but zeros", id="tensor zeroed"),
    pytest.param(lambda a, b: break_number(a, b, "blk.2.attn_k.weight"), "not finite", id="tensor not finite"),
    pytest.param(lambda a, b: drop_tensor(a, b, "token_embd.weight"), "no token embeddings", id="tied head dropped"),
    pytest.param(lambda a, b: drop_tensor(a, b, "blk.1.ffn_up.weight"), "weights, the model", id="tensor dropped"),
    pytest.param(truncate, "no whole GGUF", id="truncated"),
    pytest.param(
        lambda a, b: set_scalar(a, b, "llama.rope.freq_base", 90_000.0),
        "rope.freq_base",
        id="rope base a little off (P48)",
    ),
    pytest.param(
        lambda a, b: set_scalar(a, b, "llama.attention.layer_norm_rms_epsilon", 1e-6), "epsilon", id="epsilon changed"
    ),
    pytest.param(lambda a, b: set_scalar(a, b, "tokenizer.ggml.eos_token_id", 0), "EOS is '<|endoftext|>'", id="EOS"),
    pytest.param(lambda a, b: set_scalar(a, b, "tokenizer.ggml.eos_token_id", 70_000), "EOS is", id="EOS unknown"),
    pytest.param(lambda a, b: set_scalar(a, b, "tokenizer.ggml.bos_token_id", 0), "BOS is 0", id="BOS"),
    pytest.param(lambda a, b: set_template(a, b, None), "no chat template", id="template removed"),
    pytest.param(lambda a, b: set_template(a, b, "{{ messages }}"), "another one", id="template swapped"),
    pytest.param(lambda a, b: set_scalar(a, b, "general.file_type", 1), "file type is 1", id="file type (P47)"),
]


@pytest.fixture(
    scope="module", params=[pytest.param(6, id="six layers"), pytest.param(None, id="whole", marks=pytest.mark.slow)]
)
def made(request: pytest.FixtureRequest) -> Converted:
    """One run of convert."""
    return converted(request.param)


@pytest.fixture(scope="module")
def tools() -> Tools:
    """llama.cpp."""
    return find_tools()


@pytest.mark.parametrize("mutation", LOGIT_CONTROLS)
def test_a_wrong_gguf_predicts_otherwise_by_far(
    mutation: Mutation, made: Converted, tools: Tools, tmp_path: Path
) -> None:
    """What transformers predicts is missed by at least five times the tolerance, and the check refuses the file."""
    wrong = mutation(made.gguf / "model.gguf", tmp_path / "wrong.gguf")

    with open_model(tools, wrong) as model:
        found = compare(zip(made.tuned_logits, llama_logits(model, made.rows), strict=True))
        with pytest.raises(StageFailure, match="KL divergence") as failure:
            verify_logits(model, wrong, made.rows, made.tuned_logits)

    assert failure.value.failure is FailureClass.CONVERSION_INVALID
    assert found.mean_kl > BY_FAR * RIGHT.mean_kl


@pytest.mark.parametrize(("mutation", "said"), FILE_CONTROLS)
def test_a_wrong_file_is_refused_before_it_is_evaluated(
    mutation: Mutation, said: str, made: Converted, tmp_path: Path
) -> None:
    """Reading the file back is enough to see it, and the failure names it."""
    intended = Intended(made.source, intended_template(made.base), ("<|im_end|>",), 1)
    verify_file(made.gguf / "model.gguf", intended)
    wrong = mutation(made.gguf / "model.gguf", tmp_path / "wrong.gguf")

    with pytest.raises(StageFailure, match=said) as failure:
        verify_file(wrong, intended)

    assert failure.value.failure is FailureClass.CONVERSION_INVALID


def test_an_adapter_that_was_not_merged_is_seen_in_the_files(made: Converted) -> None:
    """P36: the base's own weights are not base plus adapter."""
    with pytest.raises(StageFailure, match="is not base plus adapter") as failure:
        check_merge(made.base, made.adapter, made.base)

    assert failure.value.failure is FailureClass.MERGE_INVALID


def test_an_adapter_that_was_not_merged_is_seen_in_what_the_model_predicts(made: Converted, tools: Tools) -> None:
    """P36: the unmerged model, in transformers and as GGUF, is far from the merged one."""
    effect = compare(zip(made.base_logits, made.tuned_logits, strict=True))

    with pytest.raises(StageFailure, match="does not predict") as merge:
        check_agreement(effect, effect)
    with pytest.raises(StageFailure, match="rounding the merged weights"):
        check_rounding(effect, effect)
    with open_model(tools, made.base_gguf / "model.gguf") as model, pytest.raises(StageFailure, match="KL divergence"):
        verify_logits(model, made.base_gguf / "model.gguf", made.rows, made.tuned_logits)

    assert merge.value.failure is FailureClass.MERGE_INVALID
    assert effect.mean_kl > BY_FAR * RIGHT.mean_kl


def test_a_weak_adapter_that_was_not_merged_is_seen_too() -> None:
    """An effect within the tolerance is judged against itself, down to what rounding makes."""
    effect = Agreement(300, 0.99, 0.0015, 0.1)

    with pytest.raises(StageFailure, match="the adapter's own effect"):
        check_agreement(effect, effect)
    check_agreement(Agreement(300, 0.995, 0.0001, 0.01), effect)


def test_a_short_training_is_rounded_and_right() -> None:
    """Measured with 40 rows and 10 steps: rounding alone makes 0.0133 of an effect of 0.27, right in every bit."""
    check_rounding(Agreement(295, 0.917, 0.014, 0.9), Agreement(295, 0.6, 0.27, 5.0))


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(lambda name: 0.0 if "layers.2.mlp.down_proj" in name else 1.0, id="one left out"),
        pytest.param(lambda name: 2.0 if "layers.5.mlp.up_proj" in name else 1.0, id="one doubled"),
        pytest.param(lambda _: 1.01, id="all off by a hundredth"),
        pytest.param(lambda _: 0.0, id="none added"),
    ],
)
def test_sums_that_are_a_little_wrong_are_seen_before_any_rounding(
    mistake: Callable[[str], float], made: Converted
) -> None:
    """What rounding to bfloat16 hides: measured 3e-8 for the right sums, 6e-6 for all of them 1 % too large."""
    model, row = load_model(made.base), made.rows[0]
    with sums(made.adapter) as added:
        assert added is not None
        right = logits(model, row, added)
        wrong = logits(model, row, {name: partial(_times, mistake(name), one) for name, one in added.items()})
    from peft import PeftModel

    apart = logits(PeftModel.from_pretrained(model, str(made.adapter)), row)

    check_exact(compare([(apart, right)]))
    found = compare([(apart, wrong)])
    with pytest.raises(StageFailure, match="before any rounding"):
        check_exact(found)
    assert found.mean_kl > BY_FAR * EXACT.mean_kl


def _times(factor: float, made: Callable[[], Any]) -> Any:
    return made() * factor


def test_rounding_that_turns_a_few_likeliest_tokens_refuses_no_merge() -> None:
    """Measured with 60 rows and 12 steps: 0.943 of 281 positions, beside an effect of 1.5."""
    check_agreement(Agreement(281, 0.943, 0.0026, 0.2), Agreement(281, 0.59, 1.5, 9.0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"use_rslora": True}, "is not base plus adapter", id="another scale"),
        pytest.param(
            {"alpha_pattern": {"layers.1.mlp.up_proj": 40}}, r"layers\.1\.mlp\.up_proj", id="one layer's scale"
        ),
    ],
)
def test_a_merge_with_another_scale_is_refused(
    change: dict[str, object], said: str, made: Converted, tmp_path: Path
) -> None:
    """An adapter whose configuration asks for another scale than the one merged is no match."""
    other = _adapter_with(made.adapter, tmp_path / "other", change)

    with pytest.raises(StageFailure, match=said):
        check_merge(made.base, other, made.source)


def test_a_changed_weight_that_no_adapter_touches_is_refused(made: Converted, tmp_path: Path) -> None:
    """Everything that the adapter leaves alone must be the base's, bit for bit."""
    from safetensors.torch import load_file, save_file

    weights = {}
    for path in made.source.glob("model*.safetensors"):
        weights |= load_file(path)
    weights["model.norm.weight"] = weights["model.norm.weight"] * 1.01
    save_file(weights, tmp_path / "model.safetensors")

    with pytest.raises(StageFailure, match=r"model\.norm\.weight has changed"):
        check_merge(made.base, made.adapter, tmp_path)


def test_full_training_that_changed_nothing_is_refused(made: Converted) -> None:
    """Weights equal to the base's are no result."""
    with pytest.raises(StageFailure, match="changed no weight") as failure:
        check_full(made.base, made.base)

    assert failure.value.failure is FailureClass.MERGE_INVALID


def test_an_adapter_gguf_of_another_scale_is_refused(made: Converted, tools: Tools, tmp_path: Path) -> None:
    """The merged model less half of the adapter is another one; less all of it, it agrees, though it is rounded."""
    wrong = set_scalar(made.gguf / "adapter.gguf", tmp_path / "adapter.gguf", "adapter.lora.alpha", 8.0)
    rows = made.rows[:2]
    without = list(logits_without(load_model(made.source), made.adapter, rows))

    with open_model(tools, made.gguf / "model.gguf") as model:
        verify_adapter(model, made.gguf / "adapter.gguf", rows, without)
        with pytest.raises(StageFailure, match=r"less the adapter is another one: .*KL divergence") as failure:
            verify_adapter(model, wrong, rows, without)

    assert failure.value.failure is FailureClass.CONVERSION_INVALID


def test_an_end_of_turn_at_which_llama_cpp_does_not_stop_is_refused(
    made: Converted, tools: Tools, tmp_path: Path
) -> None:
    """llama.cpp puts a default in place of an EOS that it does not know, and knows ends of turns by their names."""
    right = made.gguf / "model.gguf"
    wrong = set_scalar(right, tmp_path / "wrong.gguf", "tokenizer.ggml.eos_token_id", 70_000)

    with open_model(tools, right) as model:
        verify_ends(model, read_gguf(right), ("<|im_end|>",))
        with pytest.raises(StageFailure, match="does not stop at <gh_stars>"):
            verify_ends(model, read_gguf(right), ("<|im_end|>", "<gh_stars>"))
    with open_model(tools, wrong) as model, pytest.raises(StageFailure, match="for its EOS, not 70000"):
        verify_ends(model, read_gguf(wrong), ())


def test_a_swapped_template_is_seen_in_what_the_server_renders(made: Converted, tools: Tools, tmp_path: Path) -> None:
    """A template that renders otherwise is found even where the stored text is not compared."""
    right = made.gguf / "model.gguf"
    template = intended_template(made.base)
    assert template is not None
    wrong = set_template(right, tmp_path / "wrong.gguf", template.replace("You are a helpful", "You are an"))
    probe = read_probes(json.loads((converted(6).dataset / "probes.json").read_text()))[0]
    with serve(tools, right, Serving(256, 1), threading.Event()) as server:
        assert rendering_findings(server, [probe], None) == (1, [])

    with serve(tools, wrong, Serving(256, 1), threading.Event()) as server:
        asked, findings = rendering_findings(server, [probe], None)

    assert (asked, len(findings)) == (1, 1)
    assert "renders a conversation otherwise" in findings[0]


def test_a_template_that_writes_today_is_compared_as_of_the_fixed_day(
    made: Converted, tools: Tools, tmp_path: Path
) -> None:
    """P10: llama-server's clock cannot be set, and what was trained has the fixed day; all else is still compared."""
    template = intended_template(made.base)
    assert template is not None
    clock = "{{ strftime_now('%d %B %Y') }}\n"
    dated = set_template(made.gguf / "model.gguf", tmp_path / "dated.gguf", clock + template)
    plain = read_probes(json.loads((converted(6).dataset / "probes.json").read_text()))[0]
    probe = replace(plain, text=f"26 July 2024\n{plain.text}")

    with serve(tools, dated, Serving(256, 1), threading.Event()) as server:
        assert rendering_findings(server, [probe], None) == (1, [])
        for other in (plain, replace(probe, text=f"27 July 2024\n{plain.text}"), replace(probe, text=probe.text + " ")):
            assert "renders a conversation otherwise" in rendering_findings(server, [other], None)[1][0]


def test_a_dropped_head_is_refused(tools: Tools, tmp_path: Path) -> None:
    """llama.cpp would use the embeddings in place of a head that is not there, without a word."""
    base = untied(converted(6).base, tmp_path / "untied")
    (tmp_path / "metadata.json").write_text("{}")
    source = model_folder(base, base, tmp_path, "SmolLM2-untied")
    right = tmp_path / "model.gguf"
    convert(
        [model_conversion(tools, source, right, "SmolLM2-untied", tmp_path / "metadata.json")],
        threading.Event(),
        tmp_path,
    )
    rows = converted(6).rows
    model = load_model(source)
    wanted = [logits(model, row) for row in rows]
    wrong = drop_tensor(right, tmp_path / "wrong.gguf", "output.weight")

    with open_model(tools, right) as opened:
        verify_logits(opened, right, rows, wanted)
    with pytest.raises(StageFailure, match="weights, the model"):
        verify_file(wrong, Intended(source, intended_template(base)))
    with open_model(tools, wrong) as opened, pytest.raises(StageFailure, match="KL divergence"):
        verify_logits(opened, wrong, rows, wanted)
    with open_model(tools, wrong) as opened:
        missed = compare(zip(wanted, llama_logits(opened, rows), strict=True))
    assert missed.mean_kl > BY_FAR * RIGHT.mean_kl


def _adapter_with(adapter: Path, target: Path, change: dict[str, object]) -> Path:
    shutil.copytree(adapter, target)
    config = json.loads((target / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps(config | change))
    return target
