"""From an answer and its reference to a score between 0 and 1."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunesmith_api.measuring import Metric

# Values that an answer names but no reference does are counted as one in the confusion table, and a field that it
# does not name as another.
OTHER, ABSENT = "(other)", "(absent)"
# A field of more values is no class but free text, and a table of it says nothing.
_MOST_CLASSES = 50

_FIELD = re.compile(r"\s*([^:\n]{1,64}?)\s*:\s*(.*?)\s*$")


def normalized(text: str) -> str:
    """Unicode NFC, case folded, runs of white space one space, none at the ends: what may differ in an exact match."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def exact_match(answer: str, reference: str) -> float:
    """1 if the answer is the reference but for case and white space, else 0."""
    return float(normalized(answer) == normalized(reference))


def fields(text: str) -> dict[str, str]:
    """The labels of an answer, normalized: its ``Name: value`` parts, by lines or by commas; else the text as one.

    An answer that names no field is one label with the empty name. A full stop at the end of a value is no part of it.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and _all_fields(lines[0].split(",")):
        lines = lines[0].split(",")
    if not lines or not _all_fields(lines):
        return {"": _label(text)}
    return {_label(match[1]): _label(match[2]) for line in lines if (match := _FIELD.match(line))}


def _all_fields(parts: Sequence[str]) -> bool:
    return all(_FIELD.match(part) for part in parts)


def _label(text: str) -> str:
    return normalized(text).rstrip(".").rstrip()


def labels(answer: str, reference: str) -> float:
    """1 if the answer names exactly the reference's fields with its values, else 0."""
    return float(fields(answer) == fields(reference))


def chrf(answer: str, reference: str) -> float:
    """Sentence-level chrF (character n-grams up to 6, beta 2: sacrebleu's defaults) as a fraction."""
    import sacrebleu

    return float(sacrebleu.sentence_chrf(answer, [reference]).score) / 100


SCORES: Mapping[Metric, Callable[[str, str], float]] = {
    Metric.EXACT_MATCH: exact_match,
    Metric.LABELS: labels,
    Metric.CHRF: chrf,
}


def label_figures(answers: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """By field: the share of rows whose value is right, and how often each wanted class became which.

    {"category": {"accuracy": 0.9, "n": 20, "confusion": {"billing": {"billing": 9, "shipping": 1}}}}; the table is left
    out for a field of more than 50 values.
    """
    pairs = [(fields(answer), fields(reference)) for answer, reference in zip(answers, references, strict=True)]
    names = sorted({name for _, wanted in pairs for name in wanted})
    return {name or "label": _field_figures(name, pairs) for name in names}


def _field_figures(name: str, pairs: Sequence[tuple[dict[str, str], dict[str, str]]]) -> dict[str, Any]:
    named = [(wanted[name], got.get(name, ABSENT)) for got, wanted in pairs if name in wanted]
    classes = {wanted for wanted, _ in named}
    figures: dict[str, Any] = {"accuracy": sum(wanted == got for wanted, got in named) / len(named), "n": len(named)}
    if len(classes) <= _MOST_CLASSES:
        known = classes | {ABSENT}
        counts = Counter((wanted, got if got in known else OTHER) for wanted, got in named)
        confusion: dict[str, dict[str, int]] = {}
        for (wanted, got), count in sorted(counts.items()):
            confusion.setdefault(wanted, {})[got] = count
        figures["confusion"] = confusion
    return figures
