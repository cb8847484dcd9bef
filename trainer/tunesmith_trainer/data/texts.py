"""Encoded rows in, the three texts that llama.cpp's tools read out: gate, calibration and forgetting.

Own text comes first choice; general text, in the public domain and shipped with the product in three disjoint pieces,
fills up what is missing (general/SOURCES.md).
"""

import heapq
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib import resources
from itertools import pairwise

from tunesmith_api.measuring import CALIBRATION_CHUNKS, FORGETTING_CHUNKS, GATE_CHUNKS, MOST_GATE_CHUNKS
from tunesmith_api.settings import CONTEXT_LENGTH
from tunesmith_trainer.tokenizer import Tokenizer

# Perplexity needs some 40 windows before the paired difference of two quantizations stands out of its error, and gains
# little beyond 100 (llama.cpp PR 7150; P65, P66). One window more, since tokens at the seams may merge.
GATE_WINDOWS = GATE_CHUNKS + 1
GATE_MOST_WINDOWS = MOST_GATE_CHUNKS
CALIBRATION_WINDOWS = CALIBRATION_CHUNKS
CALIBRATION_OWN_WINDOWS = CALIBRATION_CHUNKS // 2
# One window more here too.
FORGETTING_WINDOWS = FORGETTING_CHUNKS + 1
_SEAM = "\n\n"


@dataclass(slots=True)
class Sample:
    """The texts with the lowest hashes, of about `most` tokens in all, whatever the order they come in."""

    most: int
    seed: int
    _heap: list[tuple[int, str, int]] = field(default_factory=list)
    _tokens: int = 0

    def add(self, text: str, tokens: int) -> None:
        digest = blake2b(text.encode(), digest_size=8, key=str(self.seed).encode()).digest()
        heapq.heappush(self._heap, (-int.from_bytes(digest, "big"), text, tokens))
        self._tokens += tokens
        while self._tokens - self._heap[0][2] >= self.most:
            self._tokens -= heapq.heappop(self._heap)[2]

    def texts(self) -> list[str]:
        """The chosen texts in the order of their hashes."""
        return [text for _, text, _ in sorted(self._heap, reverse=True)]


@dataclass(frozen=True, slots=True)
class Text:
    """A text with the number of its tokens by where they come from."""

    text: str
    own: int
    general: int


def general_text(name: str) -> str:
    """One of the shipped pieces: gate, calibration or forgetting."""
    return resources.files("tunesmith_trainer.data").joinpath("general", f"{name}.txt").read_text(encoding="utf-8")


def gate_text(own: list[str], tokenizer: Tokenizer) -> Text:
    """Plain answers, and as much general text as is missing to GATE_WINDOWS windows; no markup (P63)."""
    mine = _prefix(_SEAM.join(own), GATE_MOST_WINDOWS * CONTEXT_LENGTH, tokenizer)
    count = tokenizer.count(mine)
    missing = GATE_WINDOWS * CONTEXT_LENGTH - count
    if missing <= 0:
        return Text(mine, count, 0)
    fill = _prefix(general_text("gate"), missing, tokenizer)
    return Text(_SEAM.join(part for part in (mine, fill) if part), count, tokenizer.count(fill))


def calibration_text(own: list[str], tokenizer: Tokenizer) -> Text:
    """Rendered train rows and general text in turn, so that every beginning of it has about the same share of both."""
    counts = [tokenizer.count(text) for text in own]
    missing = CALIBRATION_WINDOWS * CONTEXT_LENGTH - sum(counts)
    fill = _prefix(general_text("calibration"), max(missing, CONTEXT_LENGTH), tokenizer)
    pieces = _pieces(fill, tokenizer)
    fills = [tokenizer.count(piece) for piece in pieces]
    # Each text stands at the middle of its share of its own kind: merging by it keeps the two in step.
    order = sorted([*_middles(own, counts), *_middles(pieces, fills)], key=lambda item: item[0])
    return Text(_SEAM.join(text for _, text in order), sum(counts), sum(fills))


def forgetting_text(tokenizer: Tokenizer) -> Text:
    """General text on which base and tuned model are compared."""
    text = _prefix(general_text("forgetting"), FORGETTING_WINDOWS * CONTEXT_LENGTH, tokenizer)
    return Text(text, 0, tokenizer.count(text))


def _middles(texts: list[str], counts: list[int]) -> list[tuple[float, str]]:
    total = max(1, sum(counts))
    ends = [0]
    for count in counts:
        ends.append(ends[-1] + count)
    return [((begin + end) / 2 / total, text) for (begin, end), text in zip(pairwise(ends), texts, strict=True)]


def _prefix(text: str, tokens: int, tokenizer: Tokenizer) -> str:
    """The beginning of the text of that many tokens, all of it where it has fewer."""
    encoding = tokenizer.encode([text])[0]
    return text if len(encoding.ids) <= tokens else text[: encoding.offsets[tokens - 1][1]]


def _pieces(text: str, tokenizer: Tokenizer) -> list[str]:
    """The text cut between paragraphs into pieces of at least half a window."""
    pieces: list[str] = []
    held: list[str] = []
    paragraphs = text.split(_SEAM)
    counts = [len(encoding.ids) for encoding in tokenizer.encode(paragraphs)]
    size = 0
    for paragraph, count in zip(paragraphs, counts, strict=True):
        held.append(paragraph)
        size += count
        if size >= CONTEXT_LENGTH // 2:
            pieces.append(_SEAM.join(held))
            held, size = [], 0
    return [*pieces, *([_SEAM.join(held)] if held else [])]
