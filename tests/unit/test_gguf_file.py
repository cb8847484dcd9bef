"""Our reader of GGUF files against gguf-py's writer, and against files that are not whole or not true."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.gguf_mutations import rewrite, set_template, write_gguf
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.llama.gguf_file import read_gguf, tensor_words


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file of every kind of value and of three tensor types, by llama.cpp's own writer."""
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("a.uint8", 200)
    writer.add_int8("a.int8", -5)
    writer.add_uint16("a.uint16", 60_000)
    writer.add_int16("a.int16", -30_000)
    writer.add_uint32("a.uint32", 4_000_000_000)
    writer.add_int32("a.int32", -7)
    writer.add_uint64("a.uint64", 2**60)
    writer.add_int64("a.int64", -(2**60))
    writer.add_float32("a.float32", 0.5)
    writer.add_float64("a.float64", 1e-300)
    writer.add_bool("a.bool", True)  # noqa: FBT003  # gguf-py's own signature
    writer.add_token_list(["<s>", "Größe", ""])
    writer.add_array("a.array", [1, 2, 3])
    writer.add_eos_token_id(2)
    writer.add_tensor("one", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor("half", np.ones(5, dtype=np.float16))
    writer.add_tensor("eighth", np.zeros((2, 34), dtype=np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_every_kind_of_value_is_read(written: Path) -> None:
    """Values come back as they were written."""
    file = read_gguf(written)
    mine = {key: value for key, value in file.metadata.items() if key.startswith("a.")}

    assert mine == {
        "a.uint8": 200,
        "a.int8": -5,
        "a.uint16": 60_000,
        "a.int16": -30_000,
        "a.uint32": 4_000_000_000,
        "a.int32": -7,
        "a.uint64": 2**60,
        "a.int64": -(2**60),
        "a.float32": 0.5,
        "a.float64": 1e-300,
        "a.bool": True,
        "a.array": [1, 2, 3],
    }
    assert file.architecture == "llama"
    assert file.tokens == ["<s>", "Größe", ""]
    assert (file.token_id("eos"), file.token_id("bos")) == (2, None)


def test_tensors_have_ggmls_shape_type_and_bytes(written: Path) -> None:
    """The contiguous dimension stands first, and a quantized tensor is counted in blocks."""
    tensors = read_gguf(written).tensors

    assert {name: (each.shape, each.type, each.bytes) for name, each in tensors.items()} == {
        "one": ((3, 2), "F32", 24),
        "half": ((5,), "F16", 10),
        "eighth": ((32, 2), "Q8_0", 68),
    }


def test_data_are_found_where_the_writer_put_them(written: Path) -> None:
    """The words of a tensor are those that were written."""
    file = read_gguf(written)

    assert tensor_words(file, file.tensors["one"]).tolist() == [0, 1, 2, 3, 4, 5]
    assert tensor_words(file, file.tensors["half"]).tolist() == [1.0] * 5


def test_a_copy_that_changes_nothing_is_read_the_same_by_llama_cpps_reader(written: Path, tmp_path: Path) -> None:
    """The test's own writer keeps to the format."""
    copy = rewrite(written, tmp_path / "copy.gguf")

    theirs = gguf.GGUFReader(copy)

    assert {each.name: each.data.tolist() for each in theirs.tensors} == {
        each.name: each.data.tolist() for each in gguf.GGUFReader(written).tensors
    }
    assert read_gguf(copy).metadata == read_gguf(written).metadata


def test_every_value_lies_where_its_span_says(written: Path) -> None:
    """A value can be replaced in place."""
    file = read_gguf(written)
    start, end = file.spans["a.uint32"]

    assert struct.unpack("<I", written.read_bytes()[start:end]) == (4_000_000_000,)


@given(cut=st.integers(min_value=0, max_value=10_000))
def test_a_truncated_file_is_refused_wherever_it_ends(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No length of the beginning of a file passes for the file, and none raises anything but ConversionInvalid."""
    folder = tmp_path_factory.mktemp("cut")
    tensors = {"weight": np.arange(64, dtype=np.float32)}
    whole = write_gguf(folder / "whole.gguf", {"general.architecture": "llama"}, tensors).read_bytes()
    (folder / "part.gguf").write_bytes(whole[: cut % len(whole)])

    with pytest.raises(StageFailure, match="no whole GGUF") as failure:
        read_gguf(folder / "part.gguf")

    assert failure.value.failure is FailureClass.CONVERSION_INVALID


@pytest.mark.parametrize(
    ("at", "value"),
    [
        pytest.param(0, b"GGML", id="magic"),
        pytest.param(4, struct.pack("<I", 99), id="version"),
        pytest.param(8, struct.pack("<Q", 2**40), id="number of tensors"),
        pytest.param(16, struct.pack("<Q", 2**62), id="number of values"),
        pytest.param(24, struct.pack("<Q", 2**63), id="length of a key"),
    ],
)
def test_a_file_that_lies_about_itself_is_refused(at: int, value: bytes, tmp_path: Path) -> None:
    """Lengths that do not fit the file end in a failure, not in a loop or in gigabytes."""
    path = write_gguf(tmp_path / "model.gguf", {"general.architecture": "llama"}, {"weight": np.ones(8)})
    raw = bytearray(path.read_bytes())
    raw[at : at + len(value)] = value
    path.write_bytes(raw)

    with pytest.raises(StageFailure, match="no whole GGUF"):
        read_gguf(path)


def test_a_template_can_be_replaced_and_removed(tmp_path: Path) -> None:
    """What the negative controls do to a file is what they say."""
    strings = {"general.architecture": "llama", "tokenizer.chat_template": "{{ messages }}"}
    path = write_gguf(tmp_path / "model.gguf", strings, {"weight": np.ones(8)})

    longer = read_gguf(set_template(path, tmp_path / "longer.gguf", "{{ messages }}" * 9))
    without = read_gguf(set_template(path, tmp_path / "without.gguf", None))

    assert longer.metadata["tokenizer.chat_template"] == "{{ messages }}" * 9
    assert without.metadata == {"general.architecture": "llama"}
    assert tensor_words(longer, longer.tensors["weight"]).tolist() == [1.0] * 8
