"""What reading a finished GGUF back finds, on descriptions of files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tunesmith.llama_cpp.tools import Build, Origin, tools_in
from tunesmith_trainer.llama.converter import model_conversion
from tunesmith_trainer.llama.gguf_file import Gguf, Tensor
from tunesmith_trainer.parity.metadata import (
    Source,
    end_of_text_findings,
    read_source,
    special_token_findings,
    structure_findings,
)

ROWS, COLUMNS = 100, 64
SOURCE = Source(ROWS * COLUMNS, 2 * ROWS * COLUMNS, {"vocab_size": ROWS})


def a_file(embedding: str = "BF16", size: int = 2 * ROWS * COLUMNS, **metadata: Any) -> Gguf:
    """A model of nothing but embeddings."""
    known = {
        "general.architecture": "llama",
        "general.file_type": 32,
        "tokenizer.ggml.tokens": [f"<{place}>" for place in range(ROWS)],
    }
    tensors = {"token_embd.weight": Tensor("token_embd.weight", (COLUMNS, ROWS), embedding, 0, size)}
    return Gguf(Path("model.gguf"), 3, known | metadata, {}, tensors, 0, size)


def test_a_right_file_has_no_findings() -> None:
    """The control of what follows."""
    assert structure_findings(a_file(), SOURCE) == []


def test_weights_in_the_narrow_16_bits_are_found(tmp_path: Path) -> None:
    """P47: float16 overflows where bfloat16 does not, so it is neither asked for nor taken for the baseline."""
    tools = tools_in(tmp_path, Origin.CACHE, Build(1, "0"))
    arguments = model_conversion(tools, tmp_path, tmp_path / "model.gguf", "name", tmp_path / "m.json").arguments

    found = structure_findings(a_file("F16", **{"general.file_type": 1}), SOURCE)

    assert arguments[arguments.index("--outtype") + 1] == "bf16"
    assert found == ["its file type is 1, not 32 (bf16)", "token_embd.weight has the type F16"]


@pytest.mark.parametrize(("share", "findings"), [(0.89, 1), (0.91, 0), (1.09, 0), (1.11, 1)])
def test_a_file_may_be_a_tenth_larger_or_smaller_than_its_weights(share: float, findings: int) -> None:
    """P49: norms are widened to 32 bits, so the size is near twice the weights' number and not exactly that."""
    found = structure_findings(a_file(size=round(share * SOURCE.bytes)), SOURCE)

    assert ["bytes" in each for each in found] == [True] * findings


@pytest.mark.parametrize(
    ("config", "written", "findings"),
    [
        pytest.param({"tie_word_embeddings": True}, False, 0, id="tied, left out"),
        pytest.param({"tie_word_embeddings": True}, True, 0, id="tied, written all the same"),
        pytest.param({"model_type": "gemma2"}, False, 0, id="a type that is tied unless it says otherwise"),
        pytest.param({"model_type": "llama"}, False, 2, id="a type that is not"),
        pytest.param({"tie_word_embeddings": False}, False, 2, id="not tied, left out"),
    ],
)
def test_a_head_is_missed_unless_it_is_the_embeddings_again(
    tmp_path: Path, config: dict[str, Any], written: bool, findings: int
) -> None:
    """Of a Gemma that stores both, llama.cpp converts one."""
    matrix = np.ones((ROWS, COLUMNS), dtype=np.float16)
    save_file({"model.embed_tokens.weight": matrix, "lm_head.weight": matrix}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    file = a_file()
    if written:
        file.tensors["output.weight"] = replace(file.tensors["token_embd.weight"], name="output.weight")

    assert len(structure_findings(file, read_source(tmp_path))) == findings


def test_another_end_of_text_is_found() -> None:
    """P46: a model of plain texts stops only at the token that its texts were trained to end with."""
    file = a_file(**{"tokenizer.ggml.eos_token_id": 2})

    assert end_of_text_findings(file, 2) == end_of_text_findings(file, None) == []
    assert end_of_text_findings(file, 1) == ["its EOS is token 2, the texts were trained to end with 1 (P46)"]


def test_another_beginning_of_text_is_found() -> None:
    """P44, P45: a model that was trained behind one token must not be served behind another."""
    file = a_file(**{"tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.bos_token_id": 1})

    assert special_token_findings(file, ("<2>",), 1) == []
    assert special_token_findings(file, ("<2>",), 0) == ["its BOS is 1, the model was trained with 0"]
