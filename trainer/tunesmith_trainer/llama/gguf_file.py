"""From a GGUF file to its metadata and its tensors' names, shapes, types and places, read straight from its bytes.

gguf-py's reader takes more than ten seconds for a vocabulary of 150,000 tokens; this one takes a fraction of one. The
layout is that of ggml's docs/gguf.md, versions 2 and 3, little-endian. What a file says about itself is not trusted:
every length is checked against the file's size.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith_api.failures import FailureClass, StageFailure

if TYPE_CHECKING:
    import numpy as np

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT of ggml's gguf.h, unless general.alignment says otherwise
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS of ggml.h
# What llama.cpp writes and the newest gguf package on the registries (0.19) does not know yet: ggml_type number, name,
# weights and bytes of a block (ggml.h, ggml-common.h).
NEWER_TYPES = {41: ("Q1_0", 128, 18), 42: ("Q2_0", 64, 18)}


class ValueType(IntEnum):
    """gguf_type of ggml's gguf.h."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


SCALARS = {
    ValueType.UINT8: "B",
    ValueType.INT8: "b",
    ValueType.UINT16: "H",
    ValueType.INT16: "h",
    ValueType.UINT32: "I",
    ValueType.INT32: "i",
    ValueType.FLOAT32: "f",
    ValueType.BOOL: "?",
    ValueType.UINT64: "Q",
    ValueType.INT64: "q",
    ValueType.FLOAT64: "d",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: `shape` as ggml counts it (the contiguous dimension first), `offset` in bytes from the file's start.

    `type` is ggml's own word, such as ``F32``, ``BF16`` or ``Q4_K``.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Gguf:
    """What a file says: `metadata` by key, `spans` the bytes of each value (first, end), `tensors` in file order.

    `size` is the file's size in bytes, `data_offset` where the tensors' data begin.
    """

    path: Path
    version: int
    metadata: Mapping[str, Any]
    spans: Mapping[str, tuple[int, int]]
    tensors: Mapping[str, Tensor]
    data_offset: int
    size: int

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    @property
    def tokens(self) -> list[str]:
        """The vocabulary in order of token id; empty where the file has none."""
        return list(self.metadata.get("tokenizer.ggml.tokens", ()))

    def token_id(self, role: str) -> int | None:
        """The id of a special token; `role` is ``bos``, ``eos``, ``eot``, ``padding``..."""
        found = self.metadata.get(f"tokenizer.ggml.{role}_token_id")
        return None if found is None else int(found)


def read_gguf(path: Path) -> Gguf:
    """Metadata and tensor infos of `path`, no tensor data.

    Raises ConversionInvalid where it is no whole GGUF file: wrong magic or version, truncated, or with a tensor whose
    data do not lie within the file.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Cursor(path, content).file()
    except (struct.error, ValueError, UnicodeDecodeError, OverflowError) as error:
        raise StageFailure(FailureClass.CONVERSION_INVALID, f"{path.name} is no whole GGUF file: {error}") from error


def tensor_words(file: Gguf, tensor: Tensor) -> "np.ndarray[Any, Any]":
    """The tensor's data as they lie in the file, read-only: float32, float16, uint16 (BF16) or bytes (all else)."""
    import numpy as np

    word = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}.get(tensor.type, np.uint8)
    count = tensor.bytes // np.dtype(word).itemsize
    return np.memmap(file.path, dtype=word, mode="r", offset=tensor.offset, shape=(count,))


class _Cursor:
    """A place in the file that moves as it is read; used once, by `read_gguf`."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path = path
        self._content = content
        self._size = len(content)
        self._at = 0

    def file(self) -> Gguf:
        if self._take(4) != MAGIC:
            raise ValueError("it does not begin with 'GGUF'")
        (version,) = self._unpack("I")
        if version not in VERSIONS:
            raise ValueError(f"version {version} is not known")
        tensor_count, value_count = self._unpack("QQ")
        metadata: dict[str, Any] = {}
        spans: dict[str, tuple[int, int]] = {}
        for _ in range(value_count):
            key = self._string()
            kind = ValueType(self._unpack("I")[0])
            start = self._at
            metadata[key] = self._value(kind)
            spans[key] = start, self._at
        infos = [self._tensor_info() for _ in range(tensor_count)]
        alignment = int(metadata.get("general.alignment", ALIGNMENT))
        data_offset = -(-self._at // alignment) * alignment
        tensors = {name: self._placed(name, shape, number, data_offset + at) for name, shape, number, at in infos}
        if len(tensors) != tensor_count:
            raise ValueError("two tensors have one name")
        return Gguf(self._path, version, metadata, spans, tensors, data_offset, self._size)

    def _tensor_info(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        (dimensions,) = self._unpack("I")
        if dimensions > MAX_DIMENSIONS:
            raise ValueError(f"tensor {name} has {dimensions} dimensions")
        shape = self._unpack(f"{dimensions}Q")
        number, offset = self._unpack("IQ")
        return name, shape, number, offset

    def _placed(self, name: str, shape: tuple[int, ...], number: int, offset: int) -> Tensor:
        kind, block, block_bytes = _type(number)
        size = math.prod(shape) // block * block_bytes
        if offset + size > self._size:
            raise ValueError(f"tensor {name} ends at byte {offset + size:,}, the file at {self._size:,}")
        return Tensor(name, shape, kind, offset, size)

    def _value(self, kind: ValueType) -> Any:
        if kind is ValueType.STRING:
            return self._string()
        if kind is not ValueType.ARRAY:
            return self._unpack(SCALARS[kind])[0]
        item, count = self._unpack("IQ")
        if count > self._size:
            raise ValueError(f"an array of {count:,} entries in {self._size:,} bytes")
        kind = ValueType(item)
        if kind in SCALARS:
            return list(self._unpack(f"{count}{SCALARS[kind]}"))
        return [self._value(kind) for _ in range(count)]

    def _string(self) -> str:
        (length,) = self._unpack("Q")
        return self._take(length).decode()

    def _unpack(self, form: str) -> tuple[Any, ...]:
        form = "<" + form
        return struct.unpack(form, self._take(struct.calcsize(form)))

    def _take(self, count: int) -> bytes:
        if self._at + count > self._size:
            raise ValueError(f"it ends at byte {self._size:,}, in the middle of a value")
        taken = self._content[self._at : self._at + count]
        self._at += count
        return taken


def _type(number: int) -> tuple[str, int, int]:
    """Name, weights and bytes of a block of a ggml_type; raises ValueError for an unknown number."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    if number in NEWER_TYPES:
        return NEWER_TYPES[number]
    kind = GGMLQuantizationType(number)
    return (kind.name, *GGML_QUANT_SIZES[kind])
