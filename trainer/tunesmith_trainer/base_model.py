"""A base model's folder in, its configuration out, or why it cannot be used: before anything of it is loaded.

Model files are hostile input: whatever could run code when it is loaded is refused here, because llama.cpp's converter
loads tokenizers with ``trust_remote_code`` (conversion/base.py).
"""

import json
import struct
from pathlib import Path
from typing import Any

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.families import Family

# The longest safetensors header (safetensors, src/tensor.rs: MAX_HEADER_SIZE).
_MAX_HEADER_BYTES = 100_000_000
_CONFIGS = ("config.json", "tokenizer_config.json", "generation_config.json", "preprocessor_config.json")
# Parts of a multimodal model as its config.json names them: llama.cpp wants them in a file of their own (P51).
_SENSES = ("vision", "audio")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")


def check_base_model(folder: Path, family: Family) -> dict[str, Any]:
    """config.json of a model that can be trained and converted.

    Raises ModelInvalid for weights in pickle files, code of its own, quantized weights (P43) and dimensions that do
    not agree (P29, P40); ConversionUnsupported for a model that also sees or hears (P51) and where the tokenizer's
    files are not as llama.cpp needs them (P39).
    """
    configs = {name: read_json(folder / name) for name in _CONFIGS if (folder / name).is_file()}
    if "config.json" not in configs:
        raise _invalid("has no config.json", "Name the folder or repository that holds a Transformers model.")
    _refuse_code(folder, configs)
    if not any(folder.glob("*.safetensors")):
        raise _invalid(
            "has no *.safetensors weights; pickle files can run any code when they are loaded and are not read",
            "Use a revision with safetensors, or convert the model where you trust it.",
        )
    config = configs["config.json"]
    if quantization := config.get("quantization_config"):
        method = quantization.get("quant_method", "unknown") if isinstance(quantization, dict) else "unknown"
        raise _invalid(
            f"is quantized already ({method})",
            "Name the 16-bit original: adapters are merged into it, and llama.cpp cannot convert this one.",
        )
    _refuse_other_senses(config)
    _check_tokenizer_files(folder, family)
    _check_embeddings(folder, config)
    return config


def check_vocabulary(config: dict[str, Any], size: int) -> None:
    """Raises ModelInvalid if the tokenizer, of `size` tokens, has some without a row of the embedding (P29, P40)."""
    rows = _language_model(config).get("vocab_size")
    if isinstance(rows, int) and size > rows:
        raise _invalid(
            f"has {size} tokens in its tokenizer, but embeddings for {rows} only",
            "Tokens were added without training them; use the original tokenizer.",
        )


def longest_text(config: dict[str, Any]) -> int | None:
    """How many tokens the model can read at once, where its configuration says it."""
    length = _language_model(config).get("max_position_embeddings")
    return length if isinstance(length, int) else None


def caps_attention(config: dict[str, Any]) -> bool:
    """Whether the model limits its attention scores, which only plain attention computes (P20).

    torch's fused attention leaves the limit out without a word (transformers 5.17, integrations/sdpa_attention.py).
    """
    return _language_model(config).get("attn_logit_softcapping") is not None


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object; raises ModelInvalid for anything else."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _invalid(f"has a {file.name} that is no JSON: {error}", "Download the model again.") from error
    if not isinstance(content, dict):
        raise _invalid(f"has a {file.name} that is no JSON object", "Download the model again.")
    return content


def _language_model(config: dict[str, Any]) -> dict[str, Any]:
    """Multimodal configurations hold the language model's numbers in text_config."""
    text = config.get("text_config")
    return {**config, **text} if isinstance(text, dict) else config


def _refuse_code(folder: Path, configs: dict[str, dict[str, Any]]) -> None:
    mapped = [name for name, content in configs.items() if content.get("auto_map")]
    code = [path.name for path in folder.rglob("*.py")]
    if mapped or code:
        raise _invalid(
            f"brings code of its own ({', '.join([*mapped, *code][:5])}), which is never run",
            "Use a model whose architecture transformers knows by itself.",
        )


def _refuse_other_senses(config: dict[str, Any]) -> None:
    if towers := [sense for sense in _SENSES if config.get(f"{sense}_config")]:
        raise StageFailure(
            FailureClass.CONVERSION_UNSUPPORTED,
            f"the base model has a part for {' and '.join(towers)}, and only text models are trained and converted",
            hint="Use the family's text-only variant.",
        )


def _check_tokenizer_files(folder: Path, family: Family) -> None:
    absent = [name for name in family.required_tokenizer_files if not (folder / name).is_file()]
    surplus = [name for name in family.forbidden_files if (folder / name).is_file()]
    if absent or surplus:
        faults = [f"lacks {name}" for name in absent] + [f"has {name}, which misleads it" for name in surplus]
        raise StageFailure(
            FailureClass.CONVERSION_UNSUPPORTED,
            f"llama.cpp cannot convert the tokenizer of a {family.title} model that {' and '.join(faults)}",
            hint="Use the model's original folder with all of its tokenizer files, and only those.",
        )


def _check_embeddings(folder: Path, config: dict[str, Any]) -> None:
    wanted = _language_model(config).get("vocab_size")
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in _header(path).items():
            if name.endswith(_EMBEDDINGS) and isinstance(wanted, int) and tensor["shape"][0] != wanted:
                raise _invalid(
                    f"has {tensor['shape'][0]} rows in {name}, but its config.json says vocab_size {wanted}",
                    "Download the model again, or correct its configuration.",
                )


def _header(path: Path) -> dict[str, Any]:
    """The tensors' names, types and shapes (safetensors' format: 8 bytes of length, then JSON)."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, _MAX_HEADER_BYTES)))
        return {name: tensor for name, tensor in header.items() if name != "__metadata__" and tensor["shape"]}
    except (ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise _invalid(f"has a damaged {path.name}: {error}", "Download the model again.") from error


def _invalid(what: str, hint: str) -> StageFailure:
    return StageFailure(FailureClass.MODEL_INVALID, f"the base model {what}", hint=hint)
