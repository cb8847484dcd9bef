"""Two reports in, those of their perplexities out that say nothing beside each other (P67)."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Report = Mapping[str, Any]


class Incomparable(NamedTuple):
    """Figures of two runs that cannot be compared: their name in the report, what people call them, and why."""

    figure: str
    called: str
    why: str

    def sentence(self) -> str:
        return f"The {self.called} of the two runs cannot be compared: they are measured {self.why}."

    def to_json_dict(self) -> dict[str, str]:
        return {"figure": self.figure, "why": self.why}


def incomparable(first: Report, second: Report) -> list[Incomparable]:
    """What is known to be measured on other windows or another text; an older report says less of its texts."""
    found = []
    for figure, called, text in (
        ("perplexityIncrease", "rises of perplexity", "gate"),
        ("forgetting", "perplexities on general text", "forgetting"),
    ):
        why = " and ".join(_differences(_measured_on(first, figure, text), _measured_on(second, figure, text)))
        if why:
            found.append(Incomparable(figure, called, why))
    return found


def _measured_on(report: Report, figure: str, text: str) -> dict[str, Any]:
    evaluation, dataset = report.get("evaluation") or {}, report.get("dataset") or {}
    windows = (evaluation.get("forgetting") if figure == "forgetting" else report.get("baseline")) or {}
    return {
        "chunks": windows.get("chunks"),
        "contextLength": windows.get("contextLength"),
        "text": (dataset.get("texts") or {}).get(text),
        "vocabulary": dataset.get("vocabulary"),
    }


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    words = {
        "chunks": "on {} and on {} windows",
        "contextLength": "in windows of {} and of {} tokens",
        "text": "on different texts",
        "vocabulary": "with different tokenizers",
    }
    if first["chunks"] is None or second["chunks"] is None:
        return
    for name, said in words.items():
        values = first[name], second[name]
        if None not in values and values[0] != values[1]:
            yield said.format(*values)
