"""figures.json of an artifact: everything that the stage measured, read and written as strict JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "figures.json"


def read_figures(folder: Path) -> dict[str, Any]:
    """The figures of an artifact; raises FileNotFoundError where it has none."""
    return dict(json.loads((folder / NAME).read_text()))


def write_figures(folder: Path, figures: Mapping[str, Any]) -> None:
    """Write `figures`; raises ValueError for what JSON has no word for (a figure that is no number)."""
    (folder / NAME).write_text(json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
