"""From weights to GGUF files, by llama.cpp's scripts in a process beside this one."""

import json
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith_trainer.conversion.adapter_folder import adapter_folder
from tunesmith_trainer.conversion.model_folder import model_folder
from tunesmith_trainer.conversion.provenance import base_metadata, tuned_metadata
from tunesmith_trainer.conversion.task import Task
from tunesmith_trainer.llama.converter import adapter_conversion, convert, model_conversion
from tunesmith_trainer.llama.gguf_file import read_gguf

MODEL = "model.gguf"
ADAPTER = "adapter.gguf"
EOS_KEY = "tokenizer.ggml.eos_token_id"


def write_base(task: Task) -> Path:
    """The untouched base as ``base-gguf/model.gguf`` in scratch; its metadata name nothing but the base."""
    folder = _empty(task.work.scratch / "base-gguf")
    source = model_folder(task.base, task.base, _empty(task.work.scratch / "base-model"), task.name)
    metadata = _metadata(task, "base", base_metadata(task.settings.base_digest, task.name))
    convert(
        [model_conversion(task.tools, source, folder / MODEL, task.name, metadata)],
        task.work.interrupted,
        task.work.scratch,
    )
    return folder


def write_tuned(task: Task, source: Path, adapter: Path | None, ends_of_turn: Sequence[str]) -> Path:
    """The model folder `source` as ``gguf/model.gguf`` and, where there is one, `adapter` as ``gguf/adapter.gguf``."""
    folder = _empty(task.work.scratch / "gguf")
    metadata = _metadata(task, "tuned", tuned_metadata(task.settings, task.name))
    conversions = [model_conversion(task.tools, source, folder / MODEL, task.name, metadata)]
    if adapter is not None:
        ready = adapter_folder(adapter, _empty(task.work.scratch / "adapter"), f"{task.name}-LoRA")
        conversions.append(adapter_conversion(task.tools, ready, source, folder / ADAPTER))
    convert(conversions, task.work.interrupted, task.work.scratch)
    end_turns(folder / MODEL, ends_of_turn)
    return folder


def end_turns(path: Path, ends_of_turn: Sequence[str]) -> None:
    """Make the token that ends a turn the GGUF's EOS, where the tokenizer names another one (P46).

    Programs that know one EOS only would go on after the answer. Gemma's EOS ends a text, not a turn, for instance.
    """
    file = read_gguf(path)
    eos = file.token_id("eos")
    if eos is None or not ends_of_turn or file.tokens[eos] in ends_of_turn:
        return
    wanted = next((token for token in ends_of_turn if token in file.tokens), None)
    if wanted is None:
        return
    with path.open("r+b") as content:
        content.seek(file.spans[EOS_KEY][0])
        content.write(struct.pack("<I", file.tokens.index(wanted)))


def _metadata(task: Task, which: str, content: Mapping[str, Any]) -> Path:
    path = task.work.scratch / f"metadata-{which}.json"
    path.write_text(json.dumps(content, ensure_ascii=False))
    return path


def _empty(folder: Path) -> Path:
    # A stage that runs again in the same scratch must not find links of its first run.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
