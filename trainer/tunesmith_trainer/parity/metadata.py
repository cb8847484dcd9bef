"""From a finished bf16 GGUF and the folder that it was made of to what is wrong with it, as sentences.

Covers what can be seen without evaluating the model: whole, finite and not emptied tensors of the right types, the
vocabulary, the special tokens, the file's size, and that no path of this machine stands in it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isclose, prod
from pathlib import Path
from typing import Any

from tunesmith_trainer.llama.gguf_file import Gguf, Tensor, tensor_words

# llama_ftype of llama.h: LLAMA_FTYPE_MOSTLY_BF16.
FILE_TYPE_BF16 = 32
# Norms and biases are widened to float32 by the converter, all else stays in 16 bits (conversion/base.py).
TYPES = ("BF16", "F32")
# A file may differ from its weights by this much: 1-D tensors are widened, some families get rope factors (P49).
SIZE_SHARE = 0.10
# The bits of a bfloat16's exponent: all ones is infinite or not a number.
BF16_EXPONENT = 0x7F80
# Metadata of llama.cpp (gguf-py's constants.py) and the field of config.json that it repeats.
CONSTANTS = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
# 32 MB of bfloat16: an embedding may be larger than what memory there is.
WORDS_AT_ONCE = 16 * 1024 * 1024
# A head that is the same matrix as the embeddings may be stored once more, and then be left out of what is made of it
# (Gemma: conversion/gemma.py).
TIED_HEADS = ("lm_head.weight",)
# A path of a machine: two or more parts from the root, or from a drive.
PATH = re.compile(r"^(/[\w.-]+){2,}/?$|^[A-Za-z]:\\|^file://")


@dataclass(frozen=True, slots=True)
class Source:
    """What the converted folder holds: number of weights, bytes that they take as bf16, and its config.json.

    Of the weights, `tied` are the embeddings once more, as a head.
    """

    elements: int
    bytes: int
    config: dict[str, Any]
    tied: int = 0


def read_source(folder: Path) -> Source:
    """Count the weights of a model folder from its safetensors headers."""
    from safetensors import safe_open

    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    elements = size = tied = 0
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118  # not a mapping
                shape = file.get_slice(name).get_shape()
                count = prod(shape)
                elements += count
                size += count * (2 if len(shape) > 1 else 4)
                tied += count if name in TIED_HEADS and _ties(config) else 0
    return Source(elements, size, config, tied)


def _ties(config: Mapping[str, Any]) -> bool:
    """Whether head and embeddings are one matrix; config.json leaves it out where it is as usual for its model type."""
    if "tie_word_embeddings" in config:
        return bool(config["tie_word_embeddings"])
    from transformers import CONFIG_MAPPING

    known = config.get("model_type")
    return known in CONFIG_MAPPING and bool(CONFIG_MAPPING[known]().tie_word_embeddings)


def structure_findings(file: Gguf, source: Source) -> list[str]:
    """What is wrong with the file's tensors, vocabulary and size."""
    found = []
    if not file.architecture:
        found.append("it names no architecture")
    if file.metadata.get("general.file_type") != FILE_TYPE_BF16:
        found.append(f"its file type is {file.metadata.get('general.file_type')}, not {FILE_TYPE_BF16} (bf16)")
    found += [f"{each.name} has the type {each.type}" for each in file.tensors.values() if each.type not in TYPES]
    found += _vocabulary_findings(file, source)
    found += _constant_findings(file, source.config)
    left_out = 0 if "output.weight" in file.tensors else source.tied
    elements = sum(tensor.elements for tensor in file.tensors.values()) + _trimmed(file, source)
    if elements < source.elements - left_out:
        found.append(f"it holds {elements:,} weights, the model {source.elements - left_out:,}")
    size, wanted = sum(tensor.bytes for tensor in file.tensors.values()), source.bytes - 2 * left_out
    if abs(size - wanted) > SIZE_SHARE * wanted:
        found.append(f"its tensors take {size:,} bytes, {wanted:,} were expected (P49)")
    found += [f"{key} is a path of this machine: {value}" for key, value in _strings(file) if PATH.match(value)]
    return found


def tensor_findings(file: Gguf) -> list[str]:
    """The tensors that hold numbers that are not finite, and matrices of nothing but zeros; reads all data once."""
    found = []
    for tensor in file.tensors.values():
        if not _finite(file, tensor):
            found.append(f"{tensor.name} holds numbers that are not finite")
        elif len(tensor.shape) > 1 and not tensor_words(file, tensor).any():
            found.append(f"{tensor.name} holds nothing but zeros")
    return found


def special_token_findings(file: Gguf, ends_of_turn: Sequence[str], bos: int | None) -> list[str]:
    """Wrong special tokens: EOS must end a turn of a chat model (P46), BOS be the one of the training (P44, P45).

    `ends_of_turn` is empty for plain text, where EOS only has to exist.
    """
    tokens = file.tokens
    eos = file.token_id("eos")
    found = []
    if eos is None or not 0 <= eos < len(tokens):
        found.append(f"its EOS is {eos}")
    elif ends_of_turn and tokens[eos] not in ends_of_turn:
        found.append(f"its EOS is {tokens[eos]!r}, a turn ends with {' or '.join(map(repr, ends_of_turn))} (P46)")
    mine = file.token_id("bos")
    if bos is not None and mine is not None and mine != bos:
        found.append(f"its BOS is {mine}, the model was trained with {bos}")
    return found


def end_of_text_findings(file: Gguf, trained: int | None) -> list[str]:
    """Whether EOS is the token that plain texts were trained to end with; None: the model was not trained on texts."""
    eos = file.token_id("eos")
    if trained is None or eos is None or eos == trained:
        return []
    return [f"its EOS is token {eos}, the texts were trained to end with {trained} (P46)"]


def _constant_findings(file: Gguf, config: Mapping[str, Any]) -> list[str]:
    """Numbers of the architecture that are not those of config.json; a slightly wrong one hides in rounding."""
    rope = config.get("rope_parameters")
    stated = {**(rope if isinstance(rope, dict) else {}), **config}
    found = []
    for key, field in CONSTANTS.items():
        mine, wanted = file.metadata.get(f"{file.architecture}.{key}"), stated.get(field)
        # Some families state a number per layer, or not at all: then only the logits can tell.
        if not isinstance(mine, int | float) or not isinstance(wanted, int | float):
            continue
        if not isclose(mine, wanted, rel_tol=1e-6):
            found.append(f"its {key} is {mine:g}, {field} in config.json {wanted:g}")
    return found


def _vocabulary_findings(file: Gguf, source: Source) -> list[str]:
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        return ["it has no token embeddings"]
    rows, tokens = embedding.shape[-1], len(file.tokens)
    stated = file.metadata.get(f"{file.architecture}.vocab_size", rows)
    if not rows == tokens == stated:
        return [f"it has {tokens:,} tokens, {rows:,} embeddings and states {stated:,} (P40)"]
    wanted = source.config.get("vocab_size", rows)
    return [f"it has {tokens:,} tokens, the model {wanted:,} (P40)"] if tokens > wanted else []


def _trimmed(file: Gguf, source: Source) -> int:
    """Weights that the converter rightly leaves out: embeddings of ids beyond the vocabulary (Gemma 3)."""
    embedding = file.tensors.get("token_embd.weight")
    rows = int(source.config.get("vocab_size", 0))
    if embedding is None or rows <= embedding.shape[-1]:
        return 0
    return (rows - embedding.shape[-1]) * embedding.shape[0]


def _finite(file: Gguf, tensor: Tensor) -> bool:
    import numpy as np

    words = tensor_words(file, tensor)
    for start in range(0, len(words), WORDS_AT_ONCE):
        some = words[start : start + WORDS_AT_ONCE]
        if tensor.type == "BF16" and ((some & BF16_EXPONENT) == BF16_EXPONENT).any():
            return False
        if tensor.type in ("F32", "F16") and not np.isfinite(some).all():
            return False
    return True


def _strings(file: Gguf) -> Iterator[tuple[str, str]]:
    for key, value in file.metadata.items():
        if isinstance(value, str) and key != "tokenizer.chat_template":
            yield key, value
