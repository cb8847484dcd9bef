"""llama-imatrix: from a GGUF and a calibration text to an importance matrix, and from the matrix to whether it fits."""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.cores import usable_cores
from tunesmith.llama_cpp import Tools
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.llama.gguf_file import Gguf, Tensor, read_gguf, tensor_words
from tunesmith_trainer.llama.run import Ran, run_tool
from tunesmith_trainer.llama.windows import batch_tokens

if TYPE_CHECKING:
    import numpy as np

_CHUNKS = re.compile(r"computing over (\d+) chunks")
_TOO_SHORT = re.compile(r"tokenizes to only (\d+) tokens")
_NOTHING_LEFT = "not enough tokens left after removing"
_CHUNK_DONE = re.compile(r"\[(\d+)\]")

_SUMS, _COUNTS = ".in_sum2", ".counts"
# The weights of which llama-quantize asks for importance in every family that we know: those of attention and of the
# feed-forward layers (src/llama-quant.cpp passes over norms, which have one dimension, and over embeddings, P54).
_IMPORTANT = re.compile(r"^blk\.\d+\.(attn|ffn)_\w+\.weight$")


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of windows: how many come before it, how many it is to take, and the matrix of those before."""

    skip: int
    chunks: int
    before: Path | None


@dataclass(frozen=True, slots=True)
class Calibrating:
    """How importance is collected: from windows of `context_length` tokens of `text`."""

    tools: Tools
    gguf: Path
    text: Path
    context_length: int
    interrupted: threading.Event
    tell: Callable[[float], None]


def collect(how: Calibrating, piece: Piece, into: Path) -> int:
    """Add the importance of one piece to that of those before it, into `into`; answers how many windows it had.

    0 means that the text ends before the piece. The matrix names its text, so the tool runs in the text's folder and
    no path of this machine gets in (P74). Raises DatasetTooSmall where the whole text has fewer than two windows.
    """
    length = how.context_length
    command: list[str | Path] = [how.tools.imatrix, "-m", how.gguf.resolve(), "-f", how.text.name, "-o", into.resolve()]
    command += ["--output-format", "gguf", "-c", str(length), "-b", str(batch_tokens(length))]
    # Without --parse-special the markup of the calibration text would be taken for ordinary characters (P53).
    command += ["--parse-special", "--chunks", str(piece.chunks), "-t", str(usable_cores())]
    if piece.before is not None:
        command += ["--in-file", piece.before.resolve(), "--chunk", str(piece.skip)]
    ran = run_tool(command, how.interrupted, how.text.parent, lambda line: _watch(line, piece, how.tell))
    if _NOTHING_LEFT in ran.output or (piece.skip and _TOO_SHORT.search(ran.output)):
        return 0
    done = _CHUNKS.search(ran.output)
    if ran.code or done is None or not into.is_file():
        raise _no_matrix(ran)
    return int(done[1])


def _watch(line: str, piece: Piece, tell: Callable[[float], None]) -> None:
    if done := _CHUNK_DONE.findall(line):
        tell(min(int(done[-1]) / piece.chunks, 1.0))


def _no_matrix(ran: Ran) -> StageFailure:
    if short := _TOO_SHORT.search(ran.output):
        message = f"the calibration text has {short[1]} tokens, too few for an importance matrix"
        return StageFailure(FailureClass.DATASET_TOO_SMALL, message)
    return StageFailure(FailureClass.CONVERSION_INVALID, f"llama-imatrix made nothing: {ran.tail(3)}")


@dataclass(frozen=True, slots=True)
class Importance:
    """An importance matrix: how many windows of how many tokens it was made from, and its entries by tensor name.

    An entry is the sums of squares, an array of (matrices, columns), and how many tokens each matrix saw.
    """

    chunks: int
    chunk_size: int
    datasets: tuple[str, ...]
    entries: Mapping[str, "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]"]


def read_importance(path: Path) -> Importance:
    """The matrix in a GGUF file that llama-imatrix wrote; raises ConversionInvalid for anything else."""
    file = read_gguf(path)
    if file.metadata.get("general.type") != "imatrix":
        raise StageFailure(FailureClass.CONVERSION_INVALID, f"{path.name} holds no importance matrix")
    names = [name.removesuffix(_SUMS) for name in file.tensors if name.endswith(_SUMS)]
    incomplete = [name for name in names if name + _COUNTS not in file.tensors]
    if incomplete:
        raise StageFailure(FailureClass.CONVERSION_INVALID, f"{path.name} has no counts for {incomplete[0]}")
    return Importance(
        chunks=int(file.metadata.get("imatrix.chunk_count", 0)),
        chunk_size=int(file.metadata.get("imatrix.chunk_size", 0)),
        datasets=tuple(file.metadata.get("imatrix.datasets", ())),
        entries={
            name: (
                tensor_words(file, file.tensors[name + _SUMS]).reshape(-1, file.tensors[name + _SUMS].shape[0]),
                tensor_words(file, file.tensors[name + _COUNTS]),
            )
            for name in names
        },
    )


def misfits(matrix: Importance, model: Gguf, chunks: int, context_length: int) -> list[str]:
    """Why a matrix does not belong to the model or is not whole; empty if it does and is (P54)."""
    found = []
    if matrix.chunks != chunks or matrix.chunk_size != context_length:
        found.append(
            f"it was made from {matrix.chunks} windows of {matrix.chunk_size} tokens, not {chunks} of {context_length}"
        )
    if paths := [name for name in matrix.datasets if "/" in name]:
        found.append(f"it names a path: {paths[0]}")
    if strange := sorted(matrix.entries.keys() - model.tensors.keys()):
        found.append(f"{len(strange)} of its entries are of no tensor of the model, {strange[0]} for one")
    needed = {name for name, tensor in model.tensors.items() if _IMPORTANT.match(name) and is_matrix(tensor)}
    if absent := sorted(needed - matrix.entries.keys()):
        found.append(f"{len(absent)} tensors of the model have no entry, {absent[0]} for one")
    wrong = [
        problem
        for name in sorted(matrix.entries.keys() & model.tensors.keys())
        if (problem := _entry_problem(name, matrix, model.tensors[name], chunks * context_length))
    ]
    return found + wrong[:3]


def is_matrix(tensor: Tensor) -> bool:
    """Whether more than one of the tensor's dimensions says something."""
    return sum(1 for size in tensor.shape if size > 1) > 1


def _entry_problem(name: str, matrix: Importance, tensor: Tensor, tokens: int) -> str | None:
    import numpy as np

    sums, counts = matrix.entries[name]
    experts = tensor.shape[2] if len(tensor.shape) > 2 else 1  # noqa: PLR2004  # columns, rows, experts
    if sums.shape != (experts, tensor.shape[0]):
        return f"{name} has {tensor.shape[0]} columns, its entry is of {sums.shape[1]}"
    if not np.isfinite(sums).all() or sums.min() < 0 or sums.max() <= 0:
        return f"the entry of {name} holds no sums of squares"
    # An expert is seen only by the tokens that are sent to it; a tensor without experts by all: llama-imatrix passes
    # over fewer than 16 at once (imatrix.cpp, collect_imatrix), but batches of 512 are computed whole (windows.py).
    if counts.max() <= 0 or (experts == 1 and counts.min() < tokens):
        return f"{name} has seen {counts.min():.0f} tokens, not {tokens}"
    return None
