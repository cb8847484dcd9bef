"""Names of columns in, what a sentence says of them out: quoted, and which of them only look like a wanted one."""

import json
from collections.abc import Iterable, Mapping

_SHOWN = 20
# A CSV without a header has its first row for names: enough of a name to know it by, and no more.
_LONGEST = 40


def quoted(names: Iterable[str]) -> str:
    """The names in quotes, since a space at an end is not seen without; the first few, and of long ones the beginning.

    No name is left out silently.
    """
    every = list(names)
    shown = [repr(name if len(name) <= _LONGEST else name[:_LONGEST] + "…") for name in every[:_SHOWN]]
    more = [f"{len(every) - _SHOWN} more"] if len(every) > _SHOWN else []
    return ", ".join([*shown, *more]) or "none"


def near(wanted: Iterable[str], present: Iterable[str]) -> dict[str, str]:
    """For each wanted name the one that is there and differs in white space or case alone, where there is one."""
    there = {_bare(name): name for name in present}
    return {name: there[_bare(name)] for name in wanted if _bare(name) in there}


def near_hint(wanted: Mapping[str, str], present: Iterable[str], mapped: Mapping[str, str] | None = None) -> str:
    """What helps where columns only look like the wanted ones, "" where none does; `wanted` are names by role.

    Only the roles of datasets[].columns can be mapped; columns of other formats have to be renamed. `mapped` are those
    that the manifest maps already, and rightly.
    """
    found = near(wanted.values(), present)
    if not found:
        return ""
    said = ", ".join(f"column {there!r} {_difference(name, there)}" for name, there in found.items())
    hint = f"{said[0].upper()}{said[1:]}: rename {'it' if len(found) == 1 else 'them'}"
    roles = {role: found[name] for role, name in wanted.items() if name in found}
    if roles.keys() <= {"prompt", "completion", "system"}:
        roles = {**(mapped or {}), **roles}
        # JSON's strings are YAML's too, whatever is in them.
        pairs = ", ".join(f"{role}: {json.dumps(there, ensure_ascii=False)}" for role, there in roles.items())
        hint += f", or write columns: {{{pairs}}}"
    return f"{hint}."


def _bare(name: str) -> str:
    return "".join(name.replace("\ufeff", "").split()).casefold()


def _difference(wanted: str, there: str) -> str:
    """How `there` differs from a name that is the same but for white space and case."""
    if there.strip() == wanted.strip() != there:
        ends = [end for end, letter in (("begins", there[0]), ("ends", there[-1])) if letter.isspace()]
        return f"{' and '.join(ends)} with {'a space' if there.replace(' ', '') == wanted.strip() else 'white space'}"
    how = "case" if there.casefold() == wanted.casefold() else "white space or case"
    return f"differs from {wanted!r} in {how}"
