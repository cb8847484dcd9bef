"""From a GGUF and token ids to what only libllama can tell: logits, losses on given ids, llama.cpp's own token ids.

llama-perplexity scores text only and llama-server gives no losses of a prompt, so the library itself is called, in this
process, through the bindings that belong to the tools (`tunesmith.llama_cpp.load_bindings`).
"""

import ctypes
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from tunesmith.llama_cpp import Tools
from tunesmith.llama_cpp.bindings import load_bindings
from tunesmith_api.failures import FailureClass, StageFailure

if TYPE_CHECKING:
    import numpy as np

# Positions whose logits are held at once: 256 of a vocabulary of 256,000 (Gemma's) are 262 MB in float32.
WINDOW = 256
# ggml_type of ggml.h; the key-value cache is kept in float32 so that nothing but the weights is rounded.
GGML_TYPE_F32 = 0
# Positional arguments of llama.h: parse_special of llama_tokenize, data of llama_memory_clear.
PARSE_MARKUP = True
WITH_DATA = True


@dataclass(frozen=True, slots=True)
class RowLoss:
    """Negative log-likelihood in nats, summed over `tokens` supervised tokens of one row."""

    total: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Losses:
    """Sums over all rows, and each row's own in the order in which they came."""

    total: float
    tokens: int
    per_row: tuple[RowLoss, ...]

    @property
    def mean(self) -> float:
        """Nats per supervised token."""
        return self.total / self.tokens if self.tokens else float("nan")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What llama.cpp makes of a GGUF's vocabulary; an id is None where the file names none."""

    size: int
    bos: int | None
    eos: int | None
    end_of_turn: int | None
    adds_bos: bool


@dataclass(frozen=True, slots=True)
class Options:
    """How a GGUF is loaded; `vocabulary_only` reads no weights, and then only tokenizes."""

    threads: int
    context_length: int = 512
    vocabulary_only: bool = False


def masked_loss(
    tools: Tools,
    gguf: Path,
    rows: Iterable[tuple[Sequence[int], Sequence[int]]],
    threads: int,
    context_length: int,
) -> Losses:
    """Loss of the supervised tokens of `rows` of (token ids, mask of 0 and 1, both of one length).

    A row is one sequence of at most `context_length` tokens; its first token is given and never scored.
    Raises ConversionInvalid where llama.cpp cannot load or evaluate the file.
    """
    with Model(tools, gguf, Options(threads, context_length)) as model:
        per_row = tuple(model.loss(ids, mask) for ids, mask in rows)
    return Losses(sum(row.total for row in per_row), sum(row.tokens for row in per_row), per_row)


def log_probs(tools: Tools, gguf: Path, ids: Sequence[int], threads: int = 2) -> "np.ndarray[Any, Any]":
    """Log-probabilities of the token after each position, float32 of shape (len(ids), vocabulary)."""
    import numpy as np

    with Model(tools, gguf, Options(threads, max(len(ids), 1))) as model:
        return np.concatenate([_log_softmax(logits) for logits in model.logits(ids)])


class Model:
    """One GGUF in this process's memory; a context manager, since libllama's memory is not Python's."""

    def __init__(self, tools: Tools, gguf: Path, options: Options) -> None:
        """Raises ConversionInvalid where llama.cpp refuses the file, ToolsMissing where the library does not load."""
        self._llama = _quiet(load_bindings(tools))
        self._gguf = gguf
        self._options = options
        self._context: Any = None
        parameters = self._llama.llama_model_default_params()
        parameters.vocab_only = options.vocabulary_only
        self._model = self._llama.llama_model_load_from_file(str(gguf).encode(), parameters)
        if not self._model:
            raise StageFailure(FailureClass.CONVERSION_INVALID, f"llama.cpp cannot load {gguf.name}")
        self._vocab = self._llama.llama_model_get_vocab(self._model)
        if not options.vocabulary_only:
            self._open_context()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._context is not None:
            self._llama.llama_batch_free(self._batch)
            self._llama.llama_free(self._context)
        self._llama.llama_model_free(self._model)

    @property
    def vocabulary(self) -> Vocabulary:
        """Size and special tokens as llama.cpp understood them, those it found by name included."""
        llama, vocab = self._llama, self._vocab
        return Vocabulary(
            size=llama.llama_vocab_n_tokens(vocab),
            bos=_known(llama.llama_vocab_bos(vocab)),
            eos=_known(llama.llama_vocab_eos(vocab)),
            end_of_turn=_known(llama.llama_vocab_eot(vocab)),
            adds_bos=bool(llama.llama_vocab_get_add_bos(vocab)),
        )

    def ends_generation(self, token: int) -> bool:
        """Whether llama.cpp stops at this token."""
        return bool(self._llama.llama_vocab_is_eog(self._vocab, token))

    def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        """Token ids of `text`, markup parsed as tokens; with `add_special` what llama-server puts around a prompt."""
        raw = text.encode()
        # No tokenizer makes more tokens than bytes, but for a BOS and an EOS.
        room = len(raw) + 2
        ids = (ctypes.c_int32 * room)()
        count = self._llama.llama_tokenize(self._vocab, raw, len(raw), ids, room, add_special, PARSE_MARKUP)
        if count < 0:
            message = f"llama.cpp needs {-count} tokens for a text of {len(raw)} bytes of {self._gguf.name}"
            raise StageFailure(FailureClass.CONVERSION_INVALID, message)
        return list(ids[:count])

    def apply_adapter(self, adapter: Path, scale: float) -> None:
        """Add `scale` times a LoRA adapter (a GGUF) to every evaluation from now on; 0 takes it off again.

        Raises ConversionInvalid where the adapter's tensors do not fit this model.
        """
        handle = self._llama.llama_adapter_lora_init(self._model, str(adapter).encode())
        if not handle:
            raise StageFailure(FailureClass.CONVERSION_INVALID, f"llama.cpp cannot apply {adapter.name} to the model")
        handles = (self._llama.llama_adapter_lora_p_ctypes * 1)(handle)
        if self._llama.llama_set_adapters_lora(self._context, handles, 1, (ctypes.c_float * 1)(scale)):
            raise StageFailure(FailureClass.CONVERSION_INVALID, f"llama.cpp does not set {adapter.name}")

    def logits(self, ids: Sequence[int]) -> Iterator["np.ndarray[Any, Any]"]:
        """Logits of the next token after each of `ids`, one sequence, in windows of (<= WINDOW, vocabulary) float32."""
        return self._windows(ids, [1] * len(ids))

    def loss(self, ids: Sequence[int], mask: Sequence[int]) -> RowLoss:
        """Summed negative log-likelihood of the tokens of `ids` whose `mask` is 1, the first one never."""
        import numpy as np

        wanted = [*mask[1:], 0]
        targets = np.array([token for token, scored in zip(ids[1:], mask[1:], strict=True) if scored], dtype=np.int64)
        total, done = 0.0, 0
        for logits in self._windows(ids, wanted):
            rows = _log_softmax(logits)
            chosen = targets[done : done + len(rows)]
            total -= float(rows[np.arange(len(rows)), chosen].sum(dtype=np.float64))
            done += len(rows)
        return RowLoss(total, done)

    def _windows(self, ids: Sequence[int], wanted: Sequence[int]) -> Iterator["np.ndarray[Any, Any]"]:
        if len(ids) > self._options.context_length:
            raise StageFailure(
                FailureClass.INTERNAL, f"a sequence of {len(ids)} tokens, opened for {self._options.context_length}"
            )
        self._llama.llama_memory_clear(self._llama.llama_get_memory(self._context), WITH_DATA)
        # What follows the last wanted position changes nothing.
        last = max((position for position, flag in enumerate(wanted) if flag), default=-1)
        for start in range(0, last + 1, WINDOW):
            stop = min(start + WINDOW, last + 1)
            logits = self._decoded(ids[start:stop], start, wanted[start:stop])
            if len(logits):
                yield logits

    def _decoded(self, ids: Sequence[int], start: int, wanted: Sequence[int]) -> "np.ndarray[Any, Any]":
        import numpy as np

        batch = self._batch
        batch.n_tokens = len(ids)
        for place, (token, flag) in enumerate(zip(ids, wanted, strict=True)):
            batch.token[place] = token
            batch.pos[place] = start + place
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = 0
            batch.logits[place] = 1 if flag else 0
        if status := self._llama.llama_decode(self._context, batch):
            message = f"llama.cpp cannot evaluate {self._gguf.name} (llama_decode: {status})"
            raise StageFailure(FailureClass.CONVERSION_INVALID, message)
        shape = (sum(1 for flag in wanted if flag), self._llama.llama_vocab_n_tokens(self._vocab))
        if not shape[0]:
            return np.empty(shape, dtype=np.float32)
        return np.ctypeslib.as_array(self._llama.llama_get_logits(self._context), shape=shape).copy()

    def _open_context(self) -> None:
        parameters = self._llama.llama_context_default_params()
        parameters.n_ctx = self._options.context_length
        parameters.n_batch = parameters.n_ubatch = WINDOW
        parameters.n_threads = parameters.n_threads_batch = self._options.threads
        parameters.type_k = parameters.type_v = GGML_TYPE_F32
        context = self._llama.llama_init_from_model(self._model, parameters)
        if not context:
            self._llama.llama_model_free(self._model)
            raise StageFailure(FailureClass.OUT_OF_MEMORY, f"llama.cpp has no memory to evaluate {self._gguf.name}")
        self._context = context
        self._batch = self._llama.llama_batch_init(WINDOW, 0, 1)


def _known(token: int) -> int | None:
    # LLAMA_TOKEN_NULL of llama.h is -1.
    return None if token < 0 else int(token)


def _log_softmax(logits: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    import numpy as np

    shifted = logits - logits.max(axis=1, keepdims=True)
    logs: np.ndarray[Any, Any] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def _quiet(bindings: ModuleType) -> ModuleType:
    # The bindings print every message of llama.cpp to stderr unless this logger of theirs is raised.
    logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)
    return bindings
