"""How a model carries its CEL rules: each stands in the model that it rules, this module gives it its form.

Only core CEL is allowed (operators, indexing, `has` and the functions in `FUNCTIONS`), so that a local CEL library and
the API server of every supported Kubernetes read a rule alike; tests/unit/test_rules.py refuses anything else.
"""

from dataclasses import dataclass
from typing import Any

# The macros and functions of core CEL (cel-spec, langdef.md) that rules may call.
FUNCTIONS = frozenset({"has", "size", "matches", "all", "exists", "filter"})


# Why most fields that are fixed are (the reference page marks them by it), and what there is to do instead.
DEPENDS = "since all that it makes depends on it"
INSTEAD = "delete the job, or give the changed one another name"


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of CEL that must be true, and the sentence a person reads when it is not.

    `field` is the field of the ruled object that the sentence is about (none: the object itself). A rule that names
    `oldSelf` is a transition rule: it is only evaluated when an object that exists is changed.
    """

    cel: str
    message: str
    field: str | None = None

    def to_schema(self) -> dict[str, str]:
        """One entry of ``x-kubernetes-validations``."""
        entry = {"rule": self.cel, "message": self.message}
        if self.field is not None:
            entry["fieldPath"] = f".{self.field}"
        return entry


def rules(*group: Rule) -> dict[str, Any]:
    """What a model or field carries as `json_schema_extra`."""
    return {"x-kubernetes-validations": [rule.to_schema() for rule in group]}


def immutable(*fields: str) -> tuple[Rule, ...]:
    """One transition rule per optional or defaulted field: it keeps the value that the job was made with."""
    return tuple(
        Rule(
            f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
            f"{field} cannot be changed once the job exists, {DEPENDS}: {INSTEAD}",
            field=field,
        )
        for field in fields
    )
