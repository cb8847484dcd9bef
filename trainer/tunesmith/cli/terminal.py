"""What every command prints on."""

import re
import sys
from typing import IO, Any, cast

from rich.console import Console

# C0 and C1 controls but line feed and tab (ECMA-48): what follows an escape can retitle, overwrite or paste.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Columns where there is no terminal: Rich would take 80, and fold or cut names that a file or a program has room for.
_UNLIMITED = 1_000_000
# Only from the beginning of a run of spaces: it would be read once for each of them.
_PADDING = re.compile(r"(?<! ) +(?=\n)")


def terminal(*, stderr: bool = False) -> Console:
    """A console that shows text as it stands, and without a terminal each line whole.

    Rich would take `[x]` for markup and `:fire:` for a picture, but prompts, answers, addresses and paths are other
    people's words: what is to have a style is given it by name.
    """
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.file = cast("IO[str]", _Unpadded(sys.stderr if stderr else sys.stdout))
        console.width = _UNLIMITED
    return console


def visible(text: str) -> str:
    """What a model or a stranger wrote, with its control characters spelt out: they are text and give no orders."""
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


class _Unpadded:
    """A stream without the spaces that tables end their lines with: as many as their longest line is long."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(_PADDING.sub("", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
