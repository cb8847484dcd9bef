"""The tables of tests/manifests as objects and as YAML text."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent.parent / "manifests"

_MODEL = {"source": "hf://a/model"}
_DATASETS = [{"source": "hf://a/dataset"}]


@dataclass(frozen=True)
class Case:
    """A manifest and what must be said about it: (path, piece of the sentence)."""

    name: str
    manifest: dict[str, Any]
    problems: tuple[tuple[str, str], ...]
    local: bool

    @property
    def text(self) -> str:
        return yaml.safe_dump(self.manifest, sort_keys=False)


@dataclass(frozen=True)
class Change:
    """A job, what it is to become, and the paths that must be refused."""

    name: str
    old: dict[str, Any]
    new: dict[str, Any]
    refused: tuple[str, ...]


def manifest(spec: dict[str, Any]) -> dict[str, Any]:
    """A whole object around a spec, with a model and a dataset where it names none."""
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "case"},
        "spec": {"model": _MODEL, "datasets": _DATASETS} | spec,
    }


@cache
def cases() -> list[Case]:
    """Every manifest of the table."""
    return [
        Case(
            row["name"],
            row["whole"] if "whole" in row else manifest(row["spec"]),
            tuple((problem["path"], problem["says"]) for problem in row.get("problems", [])),
            row.get("local", False),
        )
        for row in yaml.safe_load((FOLDER / "manifests.yaml").read_text())
    ]


@cache
def changes() -> list[Change]:
    """Every change of the table."""
    return [
        Change(row["name"], manifest(row["from"]), manifest(row["to"]), tuple(row.get("refused", [])))
        for row in yaml.safe_load((FOLDER / "changes.yaml").read_text())
    ]
