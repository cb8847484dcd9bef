"""Files of one JSON object per line, as stages write them and commands read them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one object per line; raises ValueError for what JSON has no word for (a figure that is no number)."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read one object per line.

    A line ends with a line feed and nothing else: the text of a row may hold U+2028 or U+0085, which `str.splitlines`
    takes for ends and JSON does not escape (RFC 8259, section 7).
    """
    return [json.loads(line) for line in path.read_text().split("\n") if line]
