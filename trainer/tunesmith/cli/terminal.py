"""What every command prints on."""

from rich.console import Console


def terminal(*, stderr: bool = False) -> Console:
    """A console that shows text as it stands.

    Rich would take `[x]` for markup and `:fire:` for a picture, but prompts, answers, addresses and paths are other
    people's words: what is to have a style is given it by name.
    """
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)
