"""What was counted while preparing in, the dataset report out: JSON for people and pages, with places, without content.

The only content that it shows are three rendered examples, with the trained part marked.
"""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any

from tunesmith_trainer.data.encode import Encoder, Record
from tunesmith_trainer.data.gather import Gathered
from tunesmith_trainer.data.rows import Place
from tunesmith_trainer.data.split import Part, Split

EXAMPLES = 3


def row_counts(gathered: Gathered, split: Split, encoder: Encoder) -> dict[str, int]:
    """How many rows ended how; every row that was read is in exactly one of them, but for truncated ones."""
    return {
        "read": gathered.tally.read,
        "invalid": gathered.tally.invalid,
        "duplicates": gathered.tally.duplicates,
        "leftOut": split.count(Part.LEFT_OUT),
        "overlap": split.count(Part.OVERLAP),
        "tooLong": encoder.lengths.dropped,
        "truncated": encoder.lengths.truncated,
    }


def length_figures(lengths: Sequence[int]) -> dict[str, int]:
    """Tokens of the rows, before any was dropped or cut: nearest-rank percentiles."""
    ordered = sorted(lengths)
    if not ordered:
        return {}
    ranks = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: int(ordered[ceil(share * len(ordered)) - 1]) for name, share in ranks.items()}


def marked(record: Record) -> list[dict[str, Any]]:
    """The row's tokens as text again, in runs that are trained and runs that are not."""
    runs: list[dict[str, Any]] = []
    for token, trained in zip(record.ids, record.mask, strict=True):
        if not runs or runs[-1]["trained"] != bool(trained):
            runs.append({"ids": [], "trained": bool(trained)})
        runs[-1]["ids"].append(token)
    return runs


def rendered_examples(records: Iterable[Record], encoder: Encoder) -> list[dict[str, Any]]:
    """The records with their runs decoded, so that what is shown is what the model is given."""
    decode = encoder.tokenizer.inner.decode
    return [
        {
            "place": str(record.origin.row.place),
            "dataset": record.origin.row.dataset,
            "parts": [{"text": decode(run["ids"]), "trained": run["trained"]} for run in marked(record)],
        }
        for record in records
    ]


def dataset_report(gathered: Gathered, encoder: Encoder, figures: dict[str, Any]) -> dict[str, Any]:
    """report.json without its examples: the figures, lengths, and the first places of everything that was left out."""
    seen = encoder.lengths
    return figures | {
        "formats": gathered.tally.formats,
        "lengths": length_figures(seen.tokens) | {"limit": encoder.max_length},
        "invalid": [
            {"file": one.place.file, one.place.unit: one.place.number, "reason": one.reason}
            for one in gathered.tally.problems
        ],
        "duplicates": _places(gathered.tally.duplicate_places),
        "tooLong": _places(seen.too_long_places),
        "controlTokensInContent": {"rows": seen.markup, "first": _places(seen.markup_places)},
        "boundaryMerges": seen.merged,
        "conversationsSplitByAnswer": seen.split_answers,
    }


def _places(places: Iterable[Place]) -> list[dict[str, Any]]:
    return [{"file": place.file, place.unit: place.number} for place in places]
