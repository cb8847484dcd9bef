"""A base model and its tokenizer in, the proof out that llama.cpp can convert them: before anything is trained.

The vocabulary alone is converted (seconds, no weights), and what came out is compared with what went in (P38 to P41).
"""

import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tunesmith.llama_cpp import Tools
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.llama.converter import convert, vocabulary_conversion
from tunesmith_trainer.llama.gguf_file import read_gguf
from tunesmith_trainer.tokenizer import KNOWN_ENDS, Tokenizer


def prove_conversion(tools: Tools, model: Path, scratch: Path, interrupted: threading.Event) -> dict[str, Any]:
    """The metadata of the model's vocabulary as GGUF; raises ConversionUnsupported where llama.cpp does not know it."""
    folder = scratch / "vocabulary"
    folder.mkdir(parents=True, exist_ok=True)
    outfile = folder / "vocabulary.gguf"
    convert([vocabulary_conversion(tools, model, outfile, "vocabulary")], interrupted, folder)
    return dict(read_gguf(outfile).metadata)


def compare_vocabulary(metadata: Mapping[str, Any], tokenizer: Tokenizer, ends: Collection[int]) -> dict[str, Any]:
    """What of the GGUF's tokenizer goes into the figures; `ends` are the tokens that trained answers end with.

    Raises ConversionUnsupported where the GGUF would hold another chat template than the one that is trained with
    (P41), or where llama.cpp would not stop at the end of an answer (P46).
    """
    template = metadata.get("tokenizer.chat_template")
    if tokenizer.template is not None and (template or "").strip() != tokenizer.template.strip():
        raise StageFailure(
            FailureClass.CONVERSION_UNSUPPORTED,
            "llama.cpp's converter takes another chat template than transformers does: the model has two that differ",
            hint="Remove the outdated one of tokenizer_config.json and chat_template.jinja from the model.",
        )
    vocabulary = tokenizer.inner.get_vocab()
    stops = {metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")}
    stops |= {vocabulary.get(name) for name in KNOWN_ENDS}
    if surplus := set(ends) - stops:
        names = ", ".join(map(repr, sorted(tokenizer.inner.convert_ids_to_tokens(list(surplus)))))
        raise StageFailure(
            FailureClass.CONVERSION_UNSUPPORTED,
            f"answers end with {names}, at which llama.cpp would not stop",
            hint="Set eos_token of tokenizer_config.json to the token that ends an answer.",
        )
    return {
        "model": metadata.get("tokenizer.ggml.model"),
        "preTokenizer": metadata.get("tokenizer.ggml.pre"),
        "tokens": len(metadata.get("tokenizer.ggml.tokens") or ()),
        "eosId": metadata.get("tokenizer.ggml.eos_token_id"),
    }
