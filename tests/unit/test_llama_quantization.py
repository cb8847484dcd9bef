"""What llama-quantize prints becomes a plan, and what it made is compared with it."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.llama_cpp_folders import a_script, a_tools_folder
from tunesmith.llama_cpp.tools import Build, Origin, tools_in
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.quantizations import QuantizationType
from tunesmith_trainer.llama.gguf_file import Gguf, Tensor
from tunesmith_trainer.llama.quantization import (
    Fallback,
    Plan,
    Quantizing,
    mistakes,
    parse_fallbacks,
    parse_plan,
    quantize,
    shape_of,
    step_fraction,
    without_importance,
)
from tunesmith_trainer.quantize import BESIDE_BYTES, refuse_full_disk

# Printed by llama.cpp b11312 for SmolLM2-135M-Instruct, shortened to four tensors.
DRY_RUN = """
warning: blk.0.attn_k.weight                  - ncols    576 not divisible by 256 (required for type    q4_K) -> falling back to    q5_0
[   1/   4] output_norm.weight                   - [   576,      1,      1,      1], type =    f32, size =    0.002 MiB
[   2/   4] token_embd.weight                    - [   576,  49152,      1,      1], type =   bf16, size =    54.00 MiB ->    28.69 MiB (q8_0)
[   3/   4] blk.0.attn_k.weight                  - [   576,    192,      1,      1], type =   bf16, size =     0.21 MiB ->     0.07 MiB (q5_0)
[   4/   4] blk.0.ffn_down.weight                - [  1536,    576,      1,      1], type =   bf16, size =     1.69 MiB ->     0.69 MiB (q6_K)
llama_model_quantize_impl: model size  =   256.63 MiB (16.00 BPW)
llama_model_quantize_impl: quant size  =    98.87 MiB (6.17 BPW)
llama_model_quantize_impl: WARNING: 1 of 4 tensor(s) required fallback quantization
"""  # noqa: E501  # printed so
TYPES = {
    "output_norm.weight": "F32",
    "token_embd.weight": "Q8_0",
    "blk.0.attn_k.weight": "Q5_0",
    "blk.0.ffn_down.weight": "Q6_K",
}
SHAPES = {
    "output_norm.weight": (576,),
    "token_embd.weight": (576, 49152),
    "blk.0.attn_k.weight": (576, 192),
    "blk.0.ffn_down.weight": (1536, 576),
}
PLAN = Plan(TYPES, 103_672_709, (Fallback("blk.0.attn_k.weight", "Q4_K", "Q5_0"),))


def a_file(types: dict[str, str], **changes: Any) -> Gguf:
    """A file of SmolLM2's shapes with these tensor types."""
    metadata = {"general.file_type": 15, "general.quantization_version": 2, "tokenizer.chat_template": "{{ a }}"}
    tensors = {name: Tensor(name, SHAPES[name], kind, 0, 1000) for name, kind in types.items()}
    return Gguf(Path("model.gguf"), 3, metadata | changes, {}, tensors, 0, 105_454_560)


def source() -> Gguf:
    return a_file(dict.fromkeys(TYPES, "BF16"), **{"general.file_type": 32})


def test_a_dry_run_says_each_tensors_type_the_size_and_the_fallbacks() -> None:
    """The plan names what every tensor will be: some fall back (P59), and a type is a mixture of types (P61)."""
    assert parse_plan(DRY_RUN) == PLAN


def quantizing(folder: Path, body: str) -> Quantizing:
    """A call of a llama-quantize that writes down how it was called, then does `body`."""
    tools = tools_in(a_tools_folder(folder / "tools"), Origin.ENVIRONMENT, Build(1, "0"))
    a_script(tools.quantize, f'printf "%s\\n" "$@" > {folder}/arguments\n{body}')
    matrix = folder / "matrix" / "imatrix.gguf"
    matrix.parent.mkdir()
    return Quantizing(tools, folder / "in.gguf", QuantizationType.Q4_K_M, matrix, folder, threading.Event())


def test_options_come_before_the_files(tmp_path: Path) -> None:
    """P58: llama-quantize takes an option behind a file for its next file, and makes one file a call."""
    quantize(quantizing(tmp_path, "exit 0"), tmp_path / "out.gguf")

    *options, source, target, type_, threads = (tmp_path / "arguments").read_text().split()
    assert options == ["--imatrix", "imatrix.gguf"]
    assert (source, target, type_) == (str(tmp_path / "in.gguf"), str(tmp_path / "out.gguf"), "Q4_K_M")
    assert int(threads) >= 1


def test_a_matrix_of_other_shapes_is_refused_though_the_tool_is_content(tmp_path: Path) -> None:
    """P61: builds differ in whether they stop at it; the message counts, not the exit code."""
    said = "imatrix size 512 is different from tensor size 576 for blk.0.attn_q.weight"

    with pytest.raises(StageFailure, match="of another model") as failure:
        quantize(quantizing(tmp_path, f"echo '{said}'; exit 0"), tmp_path / "out.gguf")

    assert failure.value.failure == FailureClass.CONVERSION_INVALID


def test_a_dry_run_that_broke_off_is_no_plan() -> None:
    """Every tensor and the size must be there."""
    assert parse_plan(DRY_RUN.split("[   4/", maxsplit=1)[0]) is None
    assert parse_plan(DRY_RUN.replace("[   4/   4]", "[")) is None


def test_a_tensor_of_an_odd_width_falls_back_to_f16() -> None:
    """llama.cpp puts a remark between the two types then."""
    line = (
        "warning: blk.0.attn_q.weight - ncols 50 not divisible by 256 (required for type q4_K) "
        "(WARNING: must use F16 due to unusual shape) -> falling back to     f16"
    )

    assert (Fallback("blk.0.attn_q.weight", "Q4_K", "F16"),) == parse_fallbacks(line)


def test_missing_importance_counts_but_for_embeddings() -> None:
    """llama-quantize only mentions it (P54); embeddings never have any."""
    output = (
        "[  1/272] token_embd.weight\n====== llama_model_quantize_impl: did not find weights for token_embd.weight\n"
        "\n====== llama_model_quantize_impl: did not find weights for blk.3.ffn_up.weight\n"
    )

    assert without_importance(output) == ("blk.3.ffn_up.weight",)


def test_a_file_that_is_what_was_asked_has_no_mistakes() -> None:
    """What llama-quantize changes by right is no mistake."""
    made = a_file(TYPES, **{"quantize.imatrix.file": "imatrix.gguf", "quantize.imatrix.entries_count": 210})

    assert mistakes(made, source(), QuantizationType.Q4_K_M, PLAN) == []


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(a_file(TYPES, **{"general.file_type": 17}), "general.file_type is 17", id="named as another type"),
        pytest.param(a_file(dict.fromkeys(TYPES, "Q8_0")), "are not of the planned type", id="holds another type"),
        pytest.param(
            a_file(TYPES, **{"general.quantization_version": 1}), "quantization_version is 1", id="old blocks"
        ),
        pytest.param(a_file({"token_embd.weight": "Q8_0"}), "names and shapes", id="tensors are missing"),
        pytest.param(a_file(TYPES, **{"tokenizer.chat_template": "{{ b }}"}), "chat_template", id="another template"),
        pytest.param(a_file(TYPES, **{"tokenizer.ggml.eos_token_id": 0}), "eos_token_id", id="another end token"),
        pytest.param(a_file(TYPES, **{"quantize.imatrix.file": "/home/x/i.gguf"}), "names a path", id="leaks a path"),
    ],
)
def test_a_file_that_is_not_what_was_asked_is_named(made: Gguf, expected: str) -> None:
    """Read back, not believed (P82)."""
    found = mistakes(made, source(), QuantizationType.Q4_K_M, PLAN)

    assert any(expected in each for each in found), found


def test_the_figures_of_a_file_are_of_its_tensors() -> None:
    """Bits per weight count the tensors, the fallbacks' share the weights."""
    weights = 576 + 576 * 49152 + 576 * 192 + 1536 * 576
    figures = shape_of(a_file(TYPES), PLAN)

    assert 4 * 1000 * 8 / weights == pytest.approx(figures["bitsPerWeight"])
    assert 576 * 192 / weights == pytest.approx(figures["fallbacks"]["share"])
    assert figures["tensorTypes"] == {"F32": 1, "Q5_0": 1, "Q6_K": 1, "Q8_0": 1}


def test_a_file_that_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    """The dry run's size is held against the disk: one that is too small for ever, and one that is full now (P62)."""
    disk = shutil.disk_usage(tmp_path)
    refused = []
    for size in (disk.total + 1, disk.total - 1):
        with pytest.raises(StageFailure) as failure:
            refuse_full_disk(replace(PLAN, bytes=size - BESIDE_BYTES), tmp_path)
        refused.append(failure.value.failure)

    refuse_full_disk(replace(PLAN, bytes=1), tmp_path)
    assert refused == [FailureClass.DOES_NOT_FIT, FailureClass.DISK_FULL]


def test_progress_is_the_share_of_tensors() -> None:
    """The number in front of each tensor's line."""
    assert step_fraction("[ 136/ 272] blk.14.ffn_up.weight") == 0.5
    assert step_fraction("llama_model_loader: - kv   0") is None
