"""The table of quantization types against llama-quantize itself."""

import re
import subprocess
from pathlib import Path

import gguf
import numpy as np
import pytest

from tunesmith.llama_cpp.find import installed_tools
from tunesmith_api.quantizations import ALIASES, QUANTIZATIONS, QuantizationType

TOOLS = installed_tools()

pytestmark = pytest.mark.skipif(TOOLS is None, reason="llama.cpp's tools are not built: python -m tunesmith.llama_cpp")

# Rows of 256 weights, so that no type falls back to another one; 8 layers, so that the first and last eighths, which
# get other types, are there.
WIDTH, FEED_FORWARD, LAYERS, WORDS = 256, 512, 8, 512


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of random weights, 22 MB, without a tokenizer."""
    path = tmp_path_factory.mktemp("quantizations") / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(WORDS)
    layer = {
        "attn_norm": (WIDTH,),
        "ffn_norm": (WIDTH,),
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (WIDTH // 2, WIDTH),
        "attn_v": (WIDTH // 2, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (FEED_FORWARD, WIDTH),
        "ffn_up": (FEED_FORWARD, WIDTH),
        "ffn_down": (WIDTH, FEED_FORWARD),
    }
    shapes = {"token_embd": (WORDS, WIDTH), "output_norm": (WIDTH,), "output": (WORDS, WIDTH)}
    shapes |= {f"blk.{index}.{name}": shape for index in range(LAYERS) for name, shape in layer.items()}
    chance = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", chance.standard_normal(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def quantize(*arguments: str) -> str:
    """What llama-quantize says."""
    assert TOOLS is not None
    run = subprocess.run([TOOLS.quantize, *arguments], capture_output=True, text=True, check=False, timeout=60)
    return run.stdout + run.stderr


def test_every_type_of_llama_quantize_can_be_asked_for() -> None:
    """With llama.cpp's own names and numbers; its aliases are known as such, COPY is no type."""
    listed = dict(re.findall(r"^\s*(\d+)\s+or\s+(\w+)\s*:(?!.*alias)", quantize("--help"), re.MULTILINE))
    aliases = re.findall(r"or\s+(\w+)\s*: alias for (\w+)", quantize("--help"))
    assert {name.value: known.ftype for name, known in QUANTIZATIONS.items()} == {
        name: int(number) for number, name in listed.items()
    }
    assert dict(aliases) == {alias: meant.value for alias, meant in ALIASES.items()}


@pytest.mark.parametrize("name", QUANTIZATIONS, ids=str)
def test_llama_quantize_asks_for_a_matrix_where_the_table_says_so(model: Path, name: QuantizationType) -> None:
    """A dry run says whether the real one would refuse."""
    said = quantize("--dry-run", str(model), name.value, "1")
    assert "dry run completed successfully" in said or "quant size" in said, said[-500:]
    assert ("will require an imatrix" in said) == QUANTIZATIONS[name].needs_imatrix
