"""What every command prints on."""

import re

from rich.console import Console

# C0 and C1 controls but line feed and tab (ECMA-48): what follows an escape can retitle, overwrite or paste.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def terminal(*, stderr: bool = False) -> Console:
    """A console that shows text as it stands.

    Rich would take `[x]` for markup and `:fire:` for a picture, but prompts, answers, addresses and paths are other
    people's words: what is to have a style is given it by name.
    """
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def visible(text: str) -> str:
    """What a model or a stranger wrote, with its control characters spelt out: they are text and give no orders."""
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)
