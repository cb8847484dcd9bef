"""What an artifact is stored under: the hash of everything that determines its content (contract 2 of the design)."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tunesmith_api.schema import Api
from tunesmith_api.stages import Kind

# A recipe is raised by hand when a kind's content would change for the same inputs, so for the kinds of LLAMA_CPP also
# whenever its pinned build is raised. Never lowered. tests/unit/test_keys.py freezes the keys, and the recipes by pin.
RECIPES: Mapping[Kind, int] = {
    Kind.BASE: 1,
    Kind.DATASET: 5,
    Kind.ADAPTER: 2,
    Kind.GGUF: 4,
    Kind.BASE_GGUF: 2,
    Kind.IMATRIX: 2,
    Kind.LOGITS: 3,
    Kind.EVALUATION: 5,
    Kind.QUANTIZED: 5,
    Kind.PUBLICATION: 4,
}

# What llama.cpp makes or measures. Of a dataset it makes nothing: there it is only asked whether it knows the
# vocabulary, which convert asks again.
LLAMA_CPP = (Kind.GGUF, Kind.BASE_GGUF, Kind.IMATRIX, Kind.LOGITS, Kind.EVALUATION, Kind.QUANTIZED)


def canonical_json(value: object) -> bytes:
    """One spelling for one value: sorted names, no spaces, UTF-8, no NaN (as RFC 8785, with Python's number forms)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def artifact_key(
    kind: Kind,
    settings: Api | None,
    inputs: Mapping[str, str],
    sources: Mapping[str, str] | None = None,
) -> str:
    """64 hex digits for an artifact of `kind`.

    `settings` holds every resolved field that the stage reads, `inputs` the keys of the artifacts that it reads by
    name, `sources` the digests of what comes from outside the store.
    """
    content = {"kind": kind.value, "recipe": RECIPES[kind], **_content(settings, inputs, sources)}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def fingerprint(settings: Api | None, inputs: Mapping[str, str]) -> str:
    """What a key was made from apart from the recipe: equal exactly if the same was asked for."""
    return hashlib.sha256(canonical_json(_content(settings, inputs, None))).hexdigest()


def _content(settings: Api | None, inputs: Mapping[str, str], sources: Mapping[str, str] | None) -> dict[str, Any]:
    return {
        "settings": {} if settings is None else settings.to_json_dict(),
        "inputs": dict(inputs),
        "sources": dict(sources or {}),
    }
