"""What a model's small files say of it: which weights are its own, dimensions, chat template, licence. Pure."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from tunesmith.published_names import LICENCES
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ModelDimensions, ResolvedFile

# The names under which transformers looks for weights (transformers 5.17, utils/__init__.py).
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# What a causal language model's folder needs for training and conversion; everything else stays where it is.
# Weights in other formats (pickle, GGUF, ONNX) are never mirrored: safetensors only (invariant 8).
WANTED = (
    "*.safetensors",
    INDEX,
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template.*",
    "*.model",
    *LICENCES,
)
# The files that `own_files`, `read_config`, `chat_template` and `license_name` are about.
SMALL_FILES = ("config.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json", INDEX, "README.md")
# What PEFT saves an adapter as.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1}


def check_files(where: str, files: tuple[ResolvedFile, ...]) -> None:
    """Refuse what is no model, or one whose weights are not safetensors (`ModelInvalid`)."""
    names = [file.path for file in files if "/" not in file.path]
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


def check_adapter(where: str, files: tuple[ResolvedFile, ...]) -> None:
    """Refuse what is no PEFT adapter with safetensors (`ModelInvalid`)."""
    names = {file.path for file in files}
    missing = [name for name in ADAPTER_FILES if name not in names]
    if not missing:
        return
    if missing == [ADAPTER_FILES[1]] and "adapter_model.bin" in names:
        raise StageFailure(
            FailureClass.MODEL_INVALID,
            f"the adapter {where} has its weights in a pickle file only, which can run any code when it is loaded",
            "Use a revision with adapter_model.safetensors, or save it again with PEFT where you trust it.",
        )
    raise StageFailure(
        FailureClass.MODEL_INVALID,
        f"{where} is no adapter of PEFT: it has no {' and no '.join(missing)}",
        "Name the repository or folder that an adapter was saved to, with both files at its top.",
    )


def own_files(where: str, wanted: tuple[ResolvedFile, ...], index: str | None) -> tuple[ResolvedFile, ...]:
    """`wanted` without weights that are not the model's own: those that transformers would load stay.

    `index` is the text of the weights' index where there is one. A second copy (``consolidated.safetensors``) or an
    adapter beside the weights would be stored, counted and given to the converter too. Raises `ModelInvalid`.
    """
    names = {file.path for file in wanted if file.path.endswith(".safetensors")}
    if SINGLE in names:
        own = {SINGLE}
    elif index is not None:
        own = _shards(where, index)
        if missing := sorted(own - names):
            message = f"{where} lacks {missing[0]}, which its {INDEX} names"
            raise StageFailure(FailureClass.MODEL_INVALID, message, "Upload or download the model again, whole.")
        own.add(INDEX)
    else:
        raise StageFailure(
            FailureClass.MODEL_INVALID,
            f"{where} has {', '.join(sorted(names)[:3])}, but neither {SINGLE} nor {INDEX}",
            "Use the weights as transformers saves them.",
        )
    return tuple(file for file in wanted if file.path in own or not file.path.endswith((".safetensors", INDEX)))


def _shards(where: str, index: str) -> set[str]:
    try:
        return {str(name) for name in json.loads(index)["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"{where}/{INDEX} is no index of weights: {error}"
        raise StageFailure(FailureClass.MODEL_INVALID, message, "Upload or download the model again, whole.") from error


def license_name(found: object) -> str | None:
    """The licence that a card's front matter names, None for anything that a card of ours cannot repeat."""
    # The hub's identifiers ("apache-2.0", "llama3.2"); what else a stranger wrote there is not repeated.
    return found if isinstance(found, str) and re.fullmatch(r"[A-Za-z0-9][\w.+-]{0,63}", found) else None


def read_config(where: str, text: str) -> dict[str, Any]:
    """config.json as a dict; `ModelInvalid` if it is not one."""
    try:
        config = json.loads(text)
    except ValueError as error:
        raise StageFailure(FailureClass.MODEL_INVALID, f"{where}/config.json is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise StageFailure(FailureClass.MODEL_INVALID, f"{where}/config.json is not an object")
    return config


def dimensions(
    where: str, config: Mapping[str, Any], weight_bytes: int, parameters: int | None = None
) -> ModelDimensions:
    """The model's numbers; `parameters` is their count where somebody counted them.

    Else it is the weight files' bytes over the bytes of the dtype that config.json states.
    """
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
            parameters=parameters or weight_bytes // _DTYPE_BYTES.get(dtype, 2),
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
        found = _object(texts.get(name)).get("chat_template")
        if isinstance(found, list):  # several named templates: the default one counts
            found = next((entry.get("template") for entry in found if entry.get("name") == "default"), None)
        if found:
            return str(found)
    return None


def counted_parameters(header: bytes) -> int:
    """The parameters in one safetensors file, by its JSON `header`; 0 where it cannot be read (prepare will say so)."""
    try:
        tensors = json.loads(header)
        return sum(math.prod(tensor["shape"]) for name, tensor in tensors.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return 0


def _object(text: str | None) -> dict[str, Any]:
    """What a JSON text holds if it is an object; prepare names a file that is none."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
