"""A place in a manifest: a path of names and indexes, and how a person reads it."""

Field = tuple[str | int, ...]
"""Each step is the name of a field or the index of an entry."""


def spell(path: Field) -> str:
    """A path as kubectl writes it: spec.datasets[0].source."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")
