"""What the files of a published folder are called: for who writes them, and for who looks whether a place is free."""

import fnmatch
from collections.abc import Iterable, Sequence

from tunesmith_api.quantizations import file_name

# What of a published folder, and of the folder of a job, is for Tunesmith itself.
OWN_FOLDER = ".tunesmith"

CARD = "README.md"
REPORT = "report.json"
ANSWERS = "answers.jsonl"
TRAINING_LOG = "training-log.jsonl"
LOSS_CURVE = "training-loss.svg"
ADAPTER = "adapter"
# The base model's own, which whoever passes its weights on has to pass on too (Apache-2.0 section 4, Llama 3.2 1.b).
LICENCES = ("LICENSE*", "NOTICE*")
# As PEFT calls them.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def modelfile(type_: str) -> str:
    """Ollama's description of the model of a type."""
    return f"Modelfile.{type_}"


def adapter_gguf(job: str) -> str:
    """The adapter for llama.cpp."""
    return f"{job}-adapter.gguf"


def adapter_file(name: str) -> str:
    """One of the adapter's own files."""
    return f"{ADAPTER}/{name}"


def licences(paths: Iterable[str]) -> tuple[str, ...]:
    """The licence files among a base model's, sorted."""
    return tuple(sorted(path for path in paths if any(fnmatch.fnmatchcase(path, pattern) for pattern in LICENCES)))


def all_names(job: str, types: Sequence[str], base: Iterable[str]) -> tuple[str, ...]:
    """Every path that the publication of a job can have, whatever its training makes; `base` are the base's files."""
    models = (name for type_ in types for name in (file_name(job, type_), modelfile(type_)))
    adapter = (adapter_gguf(job), *map(adapter_file, ADAPTER_FILES))
    return (CARD, REPORT, ANSWERS, TRAINING_LOG, LOSS_CURVE, *licences(base), *models, *adapter)
