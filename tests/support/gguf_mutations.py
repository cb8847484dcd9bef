"""GGUF files made wrong on purpose, for negative controls: each function writes a changed copy and returns its path."""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from gguf.constants import GGMLQuantizationType

from tunesmith_trainer.llama.gguf_file import ALIGNMENT, MAGIC, SCALARS, Gguf, Tensor, ValueType, read_gguf

Data = Callable[[str, bytes], bytes]


def zero_tensor(source: Path, target: Path, name: str) -> Path:
    """Every element of one tensor is 0."""
    return rewrite(source, target, data=lambda each, raw: bytes(len(raw)) if each == name else raw)


def break_number(source: Path, target: Path, name: str) -> Path:
    """The first element of one bf16 tensor is not a number."""
    return rewrite(source, target, data=lambda each, raw: b"\xc0\x7f" + raw[2:] if each == name else raw)


def swap_query_and_key(source: Path, target: Path, layer: int) -> Path:
    """One layer's keys stand where its first queries belong, and the other way round."""
    file = read_gguf(source)
    query, key = (file.tensors[f"blk.{layer}.attn_{which}.weight"] for which in "qk")
    raw = source.read_bytes()
    taken = {each.name: raw[each.offset : each.offset + each.bytes] for each in (query, key)}
    first = min(query.bytes, key.bytes)
    swapped = {
        query.name: taken[key.name][:first] + taken[query.name][first:],
        key.name: taken[query.name][:first] + taken[key.name][first:],
    }
    return rewrite(source, target, data=swapped.get)


def drop_tensor(source: Path, target: Path, name: str) -> Path:
    """One tensor is not there."""
    return rewrite(source, target, dropped={name})


def set_scalar(source: Path, target: Path, key: str, value: float) -> Path:
    """One number of the metadata is another."""
    return rewrite(source, target, values={key: value})


def set_template(source: Path, target: Path, template: str | None) -> Path:
    """The chat template is another one, or there is none."""
    return rewrite(source, target, values={"tokenizer.chat_template": template})


def truncate(source: Path, target: Path) -> Path:
    """The file ends in the middle of its last tensor."""
    target.write_bytes(source.read_bytes()[:-1000])
    return target


def rewrite(
    source: Path,
    target: Path,
    values: Mapping[str, float | str | None] | None = None,
    dropped: set[str] | None = None,
    data: Data = lambda _, raw: raw,
) -> Path:
    """A copy with other metadata values (None: the key is left out), without some tensors, with other data."""
    file = read_gguf(source)
    raw = source.read_bytes()
    kept = [tensor for name, tensor in file.tensors.items() if name not in (dropped or set())]
    pairs = [_pair(file, raw, key, (values or {})) for key in file.metadata]
    infos, blobs, offset = [], [], 0
    for tensor in kept:
        blob = data(tensor.name, raw[tensor.offset : tensor.offset + tensor.bytes])
        infos.append(_info(tensor, offset))
        blobs.append(_padded(blob))
        offset += len(blobs[-1])
    present = [pair for pair in pairs if pair]
    head = MAGIC + struct.pack("<IQQ", file.version, len(kept), len(present)) + b"".join([*present, *infos])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"".join([_padded(head), *blobs]))
    return target


def write_gguf(target: Path, strings: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> Path:
    """A small GGUF of text values and float32 tensors."""
    pairs = [_string(key) + struct.pack("<I", ValueType.STRING) + _string(value) for key, value in strings.items()]
    infos, blobs, offset = [], [], 0
    for name, array in tensors.items():
        shape = tuple(reversed(array.shape))
        infos.append(_info(Tensor(name, shape, "F32", 0, array.nbytes), offset))
        blobs.append(_padded(array.astype("<f4").tobytes()))
        offset += len(blobs[-1])
    head = MAGIC + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join([*pairs, *infos])
    target.write_bytes(b"".join([_padded(head), *blobs]))
    return target


def _pair(file: Gguf, raw: bytes, key: str, values: Mapping[str, float | str | None]) -> bytes:
    start, end = file.spans[key]
    kind = ValueType(struct.unpack_from("<I", raw, start - 4)[0])
    value = raw[start:end]
    if key in values:
        wanted = values[key]
        if wanted is None:
            return b""
        value = _string(wanted) if isinstance(wanted, str) else struct.pack("<" + SCALARS[kind], wanted)
    return _string(key) + struct.pack("<I", kind) + value


def _info(tensor: Tensor, offset: int) -> bytes:
    dimensions = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
    return _string(tensor.name) + dimensions + struct.pack("<IQ", GGMLQuantizationType[tensor.type], offset)


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % ALIGNMENT)
