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
    gate = _differences(*(_measured_on(each, each.get("baseline"), "gate") for each in (first, second)))
    general = _differences(*(_measured_on(each, _forgetting(each), "forgetting") for each in (first, second)))
    found = (
        Incomparable("perplexityIncrease", "rises of perplexity", " and ".join(gate)),
        Incomparable("forgetting", "perplexities on general text", " and ".join(general)),
    )
    return [each for each in found if each.why]


def _forgetting(report: Report) -> Any:
    return (report.get("evaluation") or {}).get("forgetting")


def _measured_on(report: Report, windows: Mapping[str, Any] | None, text: str) -> dict[str, Any]:
    windows, dataset = windows or {}, report.get("dataset") or {}
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
