"""Whether an importance matrix belongs to a model and is whole, read from real files of both kinds."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.llama_cpp_folders import a_script, a_tools_folder
from tunesmith.llama_cpp.tools import Build, Origin, tools_in
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.imatrix import token_figures
from tunesmith_trainer.llama.gguf_file import Gguf, read_gguf
from tunesmith_trainer.llama.importance import Calibrating, Piece, collect, misfits, read_importance

LENGTH = 512
COLUMNS = {"blk.0.attn_q.weight": 8, "blk.0.ffn_down.weight": 16}
EXPERTS = {"blk.1.ffn_up_exps.weight": (8, 4, 3)}  # columns, rows, experts


def a_model(path: Path) -> Gguf:
    """A GGUF of two weights, the embeddings, a norm and three experts."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    for name, columns in COLUMNS.items():
        writer.add_tensor(name, np.ones((4, columns), np.float32))
    for name, shape in EXPERTS.items():
        writer.add_tensor(name, np.ones(shape[::-1], np.float32))
    writer.add_tensor("token_embd.weight", np.ones((32, 8), np.float32))
    writer.add_tensor("blk.0.attn_norm.weight", np.ones(8, np.float32))
    _write(writer)
    return read_gguf(path)


def a_matrix(path: Path, **changes: Any) -> Path:
    """An importance matrix of two windows as llama-imatrix writes it; a test changes what it is about."""
    from gguf import GGUFWriter

    told = {"chunks": 2, "dataset": "calibration.txt", "columns": COLUMNS, "tokens": 2 * LENGTH, "sums": 3.0} | changes
    writer = GGUFWriter(path, "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", [told["dataset"]])
    writer.add_uint32("imatrix.chunk_count", told["chunks"])
    writer.add_uint32("imatrix.chunk_size", LENGTH)
    for name, columns in told["columns"].items():
        writer.add_tensor(f"{name}.in_sum2", np.full((1, columns), told["sums"], np.float32))
        writer.add_tensor(f"{name}.counts", np.full((1, 1), told["tokens"], np.float32))
    for name, (columns, _, experts) in EXPERTS.items():
        writer.add_tensor(f"{name}.in_sum2", np.ones((experts, columns), np.float32))
        writer.add_tensor(f"{name}.counts", np.array([[700], [300], [0]], np.float32))
    _write(writer)
    return path


def _write(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_matrix_of_the_model_fits(tmp_path: Path) -> None:
    """Embeddings and norms need no entry, and an expert that no token was sent to is no fault (P54)."""
    matrix = read_importance(a_matrix(tmp_path / "imatrix.gguf"))

    assert misfits(matrix, a_model(tmp_path / "model.gguf"), 2, LENGTH) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"columns": {"blk.0.attn_q.weight": 8}}, "1 tensors of the model have no entry", id="lacks one"),
        pytest.param({"columns": COLUMNS | {"blk.9.attn_q.weight": 8}}, "of no tensor of the model", id="another's"),
        pytest.param({"columns": COLUMNS | {"blk.0.attn_q.weight": 12}}, "has 8 columns", id="other shape"),
        pytest.param({"tokens": 0}, "has seen 0 tokens", id="counted nothing"),
        pytest.param({"tokens": LENGTH}, "has seen 512 tokens, not 1024", id="torn in the middle of a batch"),
        pytest.param({"tokens": 2 * LENGTH - 6}, "has seen 1018 tokens, not 1024", id="lost the rest of a batch"),
        pytest.param({"sums": float("nan")}, "no sums of squares", id="not a number"),
        pytest.param({"sums": 0.0}, "no sums of squares", id="all zero"),
        pytest.param({"chunks": 7}, "made from 7 windows", id="another run"),
        pytest.param({"chunks": 1}, "made from 1 windows", id="one window lost"),
        pytest.param({"dataset": "/home/someone/calibration.txt"}, "names a path", id="leaks a path (P74)"),
    ],
)
def test_a_matrix_that_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    """llama-quantize only mentions most of these in its log."""
    matrix = read_importance(a_matrix(tmp_path / "imatrix.gguf", **changes))

    found = misfits(matrix, a_model(tmp_path / "model.gguf"), 2, LENGTH)

    assert any(expected in each for each in found), found


@pytest.mark.parametrize("length", [64, 512, 1000, 4096])
def test_a_batch_is_a_whole_number_of_windows(tmp_path: Path, length: int) -> None:
    """P52: llama-imatrix reads several windows at once only if they fill its batch, and refuses shorter texts."""
    tools = tools_in(a_tools_folder(tmp_path / "tools"), Origin.ENVIRONMENT, Build(1, "0"))
    a_script(tools.imatrix, f'printf "%s\\n" "$@" > {tmp_path}/arguments; echo "the data tokenizes to only 7 tokens"')
    how = Calibrating(tools, tmp_path / "m.gguf", tmp_path / "c.txt", length, threading.Event(), lambda _: None)

    with pytest.raises(StageFailure, match="has 7 tokens, too few") as failure:
        collect(how, Piece(0, 4, None), tmp_path / "imatrix.gguf")

    arguments = (tmp_path / "arguments").read_text().split()
    window, batch = (int(arguments[arguments.index(option) + 1]) for option in ("-c", "-b"))
    assert (window, batch % window) == (length, 0)
    assert batch >= window
    assert failure.value.failure == FailureClass.DATASET_TOO_SMALL


def test_a_model_is_no_matrix(tmp_path: Path) -> None:
    """Another GGUF in the matrix's place is refused by its type."""
    a_model(tmp_path / "model.gguf")

    with pytest.raises(StageFailure) as failure:
        read_importance(tmp_path / "model.gguf")

    assert failure.value.failure == FailureClass.CONVERSION_INVALID


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"calibrationOwn": 300, "calibrationGeneral": 100}, {"tokens": 200, "ownTokens": 150, "generalTokens": 50}),
        ({}, {"tokens": 200}),
    ],
)
def test_own_and_general_tokens_are_in_the_texts_proportion(counts: dict[str, int], expected: dict[str, int]) -> None:
    """Prepare mixes them evenly, so that every beginning has the same share."""
    assert token_figures({"tokens": counts}, 200) == expected
