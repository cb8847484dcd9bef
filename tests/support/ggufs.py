"""GGUF files for tests: SmolLM2 as bf16, converted once into the cache, and copies that are damaged on purpose."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from support.models import smollm2
from tunesmith.cache import cache_dir
from tunesmith.llama_cpp import find_tools
from tunesmith_trainer.llama.gguf_file import read_gguf


def smollm2_gguf() -> Path:
    """The real SmolLM2-135M-Instruct as a bf16 GGUF."""
    path = cache_dir() / "tests" / f"SmolLM2-135M-Instruct-{find_tools().build}.gguf"
    return path if path.exists() else converted(smollm2(), path)


def converted(model: Path, path: Path) -> Path:
    """A model folder as a bf16 GGUF at `path`, by llama.cpp's converter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    script = find_tools().convert_hf_to_gguf
    command = [sys.executable, script, model, "--outfile", partial, "--outtype", "bf16", "--model-name", "SmolLM2"]
    subprocess.run(command, check=True, capture_output=True)
    return partial.replace(path)


def folder_of(gguf: Path, folder: Path) -> Path:
    """An artifact's folder with this file as its model.gguf."""
    folder.mkdir(parents=True)
    (folder / "model.gguf").symlink_to(gguf)
    return folder


def with_text(gguf: Path, target: Path, before: bytes, after: bytes) -> Path:
    """A copy in whose metadata every `before` is an `after` of the same length."""
    assert len(before) == len(after)
    shutil.copyfile(gguf, target)
    with target.open("rb") as file:
        head = file.read(read_gguf(gguf).data_offset)
    assert before in head
    with target.open("r+b") as file:
        file.write(head.replace(before, after))
    return target


def with_noise(gguf: Path, target: Path, share: float) -> Path:
    """A copy of a bf16 GGUF in which every weight of attention and feed-forward is off by a random part of itself."""
    import numpy as np

    shutil.copyfile(gguf, target)
    random = np.random.default_rng(5)
    for tensor in read_gguf(gguf).tensors.values():
        if tensor.type != "BF16" or not tensor.name.startswith("blk."):
            continue
        words = np.memmap(target, np.uint16, "r+", offset=tensor.offset, shape=(tensor.elements,))
        values = (words.astype(np.uint32) << 16).view(np.float32)
        values *= 1 + share * random.standard_normal(len(values), np.float32)
        words[:] = (values.view(np.uint32) >> 16).astype(np.uint16)
        words.flush()
    return target


def with_entries(matrix: Path, target: Path, names: Iterable[str], columns: int | None = None) -> Path:
    """A copy of an importance matrix with these entries only; the first of them cut to `columns` where that is set."""
    from gguf import GGUFReader, GGUFWriter

    wanted = list(names)
    reader, writer = GGUFReader(matrix), GGUFWriter(target, "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["calibration.txt"])
    for key in ("imatrix.chunk_count", "imatrix.chunk_size"):
        writer.add_uint32(key, int(reader.fields[key].parts[-1][0]))
    for tensor in reader.tensors:
        name, _, part = tensor.name.rpartition(".")
        if name in wanted:
            cut = columns if part == "in_sum2" and name == wanted[0] else None
            writer.add_tensor(tensor.name, tensor.data.reshape(-1, int(tensor.shape[0]))[:, :cut].copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
