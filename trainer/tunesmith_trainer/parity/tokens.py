"""From texts with Hugging Face's token ids to where llama.cpp's tokenizer gives others, known limits apart.

A model that is served with other tokens than it was trained with answers worse, and nothing else shows it.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_trainer.llama.libllama import Model
from tunesmith_trainer.parity.template import Probe

# Tokens of Llama's first vocabulary that llama.cpp takes for markup wherever they stand in a vocabulary
# (src/llama-vocab.cpp; seen with the real vocabularies of nine families).
ALWAYS_MARKUP = ("</s>", "<s>", "<unk>")


@dataclass(frozen=True, slots=True)
class TokenParity:
    """How many texts were compared, how many differ for a known reason (and which), and what differs for none."""

    compared: int
    known: dict[str, int]
    findings: list[str]


def compare_tokens(model: Model, probes: Sequence[Probe]) -> TokenParity:
    """Tokenize each text as llama-server would a rendered prompt and compare the ids with Hugging Face's."""
    known: dict[str, int] = {}
    findings = []
    for probe in probes:
        ids = _served(model, probe.text)
        if tuple(ids) == probe.ids:
            continue
        if limit := known_limit(model, probe):
            known[limit] = known.get(limit, 0) + 1
        else:
            findings.append(f"llama.cpp tokenizes a conversation otherwise: {_difference(probe.ids, ids)}")
    return TokenParity(len(probes), known, findings)


def known_limit(model: Model, probe: Probe) -> str | None:
    """The limit of llama.cpp that explains the difference, or None."""
    composed = unicodedata.normalize("NFC", probe.text)
    if composed != probe.text and tuple(_served(model, composed)) == probe.ids:
        return "llama.cpp does not normalise text to NFC"
    if any(token in probe.text for token in ALWAYS_MARKUP):
        return "llama.cpp takes </s>, <s> and <unk> in a text for markup"
    return None


def _served(model: Model, text: str) -> list[int]:
    """Ids of a rendered prompt with exactly one BOS where the model wants one, as llama-server sees to it (P44)."""
    vocabulary = model.vocabulary
    ids = model.tokenize(text, add_special=False)
    if vocabulary.adds_bos and vocabulary.bos is not None and ids[:1] != [vocabulary.bos]:
        return [vocabulary.bos, *ids]
    return ids


def _difference(wanted: Sequence[int], found: Sequence[int]) -> str:
    at = next((i for i, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), min(len(wanted), len(found)))
    return f"token {at} of {len(wanted)} is {list(found[at : at + 4])}, not {list(wanted[at : at + 4])}"
