"""From what a GGUF is made of to the metadata that llama.cpp's converter writes into it (P74).

Only what enters the key stands there: no job, no time, no path of this machine, so that equal inputs give equal files.
"""

import re
from typing import Any

from tunesmith.resolve.uri import portable
from tunesmith_api.settings import ConvertSettings
from tunesmith_api.spec import Method


def base_metadata(digest: str, name: str) -> dict[str, Any]:
    """For the GGUF of the untouched base, which is keyed by the base's digest alone."""
    return {"general.description": f"{name} ({digest}), converted by Tunesmith"}


def tuned_metadata(settings: ConvertSettings, name: str) -> dict[str, Any]:
    """For the GGUF of the tuned model: what it was made of, as gguf-py's metadata override file has it."""
    how = "with somebody else's adapter" if settings.method is Method.NONE else f"tuned with {settings.method.value}"
    data = ", ".join(settings.dataset_digests) or "none"
    description = f"{name} ({settings.base_digest}) {how} by Tunesmith; datasets: {data}"
    return {
        "general.description": description,
        "general.base_models": [_base_model(settings, name)],
        "general.datasets": [{"name": digest} for digest in settings.dataset_digests],
    }


def model_name(meta_name: str | None, source: str) -> str:
    """What the base is called: what its artifact says, else the end of its address.

    llama.cpp knows Phi-3's tokenizer by this name alone (src/llama-vocab.cpp), so it is never that of a folder of ours.
    """
    name = meta_name or source.rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^\w.+-]", "-", name) or "model"


def _base_model(settings: ConvertSettings, name: str) -> dict[str, str]:
    found = {"name": name, "version": settings.base_revision or settings.base_digest}
    if settings.base_source.startswith("hf://"):
        organization = settings.base_source.removeprefix("hf://").split("/")[0]
        found["organization"] = organization
    if portable(settings.base_source):
        found["url"] = settings.base_source
    return found
