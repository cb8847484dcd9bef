"""What a model's small files say of it: dimensions, family, whether it can chat. Pure; weights are not read."""

import json
from collections.abc import Mapping
from typing import Any

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ModelDimensions, ResolvedFile

# What a causal language model's folder needs for training and conversion; everything else stays where it is.
# Weights in other formats (pickle, GGUF, ONNX) are never mirrored: safetensors only (invariant 8).
WANTED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template.*",
    "*.model",
    "LICENSE*",
    "NOTICE*",
)
# The files that `dimensions` and `chat_template` read.
SMALL_FILES = ("config.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json")

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1}


def check_files(where: str, files: tuple[ResolvedFile, ...]) -> None:
    """Refuse what is no model, or one whose weights are not safetensors (`ModelInvalid`)."""
    names = [file.path for file in files]
    if "config.json" not in names:
        raise StageFailure(FailureClass.MODEL_INVALID, f"{where} has no config.json, so it is no Transformers model")
    if any(name.endswith(".safetensors") for name in names):
        return
    if any(name.endswith(_PICKLES) for name in names):
        raise StageFailure(
            FailureClass.MODEL_INVALID,
            f"{where} has its weights in pickle files only, which can run any code when they are loaded",
            "Use a repository or revision with *.safetensors, or convert the model where you trust it.",
        )
    raise StageFailure(FailureClass.MODEL_INVALID, f"{where} has no *.safetensors weights")


def read_config(where: str, text: str) -> dict[str, Any]:
    """config.json as a dict; `ModelInvalid` if it is not one."""
    try:
        config = json.loads(text)
    except ValueError as error:
        raise StageFailure(FailureClass.MODEL_INVALID, f"{where}/config.json is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise StageFailure(FailureClass.MODEL_INVALID, f"{where}/config.json is not an object")
    return config


def dimensions(where: str, config: Mapping[str, Any], weight_bytes: int) -> ModelDimensions:
    """The model's numbers; parameters are the weight files' bytes over the bytes of their dtype."""
    # Multimodal configurations hold the language model's numbers in text_config.
    text = {**config, **(config.get("text_config") or {})}
    try:
        heads = int(text["num_attention_heads"])
        hidden = int(text["hidden_size"])
        dtype = str(text.get("dtype") or text.get("torch_dtype") or "bfloat16")
        return ModelDimensions(
            architecture=str((config.get("architectures") or ["unknown"])[0]),
            model_type=str(config.get("model_type", "unknown")),
            hidden_size=hidden,
            intermediate_size=int(text.get("intermediate_size") or 4 * hidden),
            layers=int(text["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(text.get("num_key_value_heads") or heads),
            head_dim=int(text.get("head_dim") or hidden // heads),
            vocab_size=int(text["vocab_size"]),
            max_position_embeddings=int(text.get("max_position_embeddings") or 2048),
            tied_embeddings=bool(text.get("tie_word_embeddings", True)),
            parameters=weight_bytes // _DTYPE_BYTES.get(dtype, 2),
            bytes=weight_bytes,
            dtype=dtype,
        )
    except (KeyError, TypeError, ValueError) as error:
        message = (
            f"{where}/config.json lacks or misstates {error}, so it is no causal language model that can be trained"
        )
        raise StageFailure(FailureClass.MODEL_INVALID, message) from error


def chat_template(texts: Mapping[str, str]) -> str | None:
    """The template as Transformers finds it, chat_template.jinja first; None for a base model."""
    if text := texts.get("chat_template.jinja"):
        return text
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = json.loads(texts.get(name) or "{}").get("chat_template")
        if isinstance(found, list):  # several named templates: the default one counts
            found = next((entry.get("template") for entry in found if entry.get("name") == "default"), None)
        if found:
            return str(found)
    return None
