"""The rules that the API server will apply, applied here: a manifest goes in, what it violates comes out.

It walks the schema that the CRD holds: fills in defaults as the API server does, evaluates the CEL rules with
cel-python, and checks what lists are declared to be (sets, maps).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import celpy
from celpy import celtypes

from tunesmith.problems import Problem
from tunesmith_api.fields import Field, spell
from tunesmith_api.generate.crd import job_schema
from tunesmith_api.generate.structural import Schema


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that does not hold for a field; `evaluated` is false where it could not even be asked."""

    path: Field
    message: str
    evaluated: bool = True


def violations(manifest: dict[str, Any], old: dict[str, Any] | None = None) -> list[Problem]:
    """What the manifest violates, on its own and (with `old`, what it replaces) as a change.

    Both are as written, without defaults. Like the API server, it takes a rule that cannot be evaluated for violated.
    """
    return [Problem(spell(violation.path), violation.message) for violation in find(manifest, old)]


def find(manifest: dict[str, Any], old: dict[str, Any] | None = None) -> Iterator[Violation]:
    """The same one by one, with paths in steps."""
    schema = schema_of_jobs()
    yield from _walk(schema, with_defaults(schema, manifest), None if old is None else with_defaults(schema, old), ())


@cache
def schema_of_jobs() -> Schema:
    """The structural schema of a FineTuneJob; not to be changed."""
    return job_schema()


def with_defaults(schema: Schema, value: Any) -> Any:
    """A copy of the value with every absent field that has a default filled in, from the outside in."""
    if isinstance(value, dict) and "properties" in schema:
        fields = {name: field["default"] for name, field in schema["properties"].items() if "default" in field} | value
        return {name: with_defaults(schema["properties"].get(name, {}), item) for name, item in fields.items()}
    if isinstance(value, list) and "items" in schema:
        return [with_defaults(schema["items"], item) for item in value]
    return value


def _walk(schema: Schema, value: Any, old: Any, path: Field) -> Iterator[Violation]:
    for rule in schema.get("x-kubernetes-validations", []):
        holds = _holds(rule["rule"], schema, value, old)
        if holds is not True:
            field = rule.get("fieldPath", "").removeprefix(".")
            yield Violation((*path, field) if field else path, rule["message"], evaluated=holds is not None)
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for name, field in schema.get("properties", {}).items():
            if name in value:
                yield from _walk(field, value[name], before.get(name), (*path, name))
    if isinstance(value, list) and "items" in schema:
        yield from _duplicates(schema, value, path)
        for index, item in enumerate(value):
            # No old value: the API server cannot say which entry of an atomic list was which before.
            yield from _walk(schema["items"], item, None, (*path, index))


def _holds(rule: str, schema: Schema, value: Any, old: Any) -> bool | None:
    """Whether a rule holds; None: it cannot be evaluated, since a field that it reads is absent or of a wrong type."""
    if "oldSelf" in rule and old is None:
        return True
    try:
        return bool(_program(rule).evaluate({"self": _to_cel(schema, value), "oldSelf": _to_cel(schema, old)}))
    # cel-python lets Python's own errors through: a number where a list is gone over, one of more than 63 bits.
    except (celpy.CELEvalError, TypeError, ValueError):
        return None


@cache
def _program(rule: str) -> Any:
    # The interpreter: cel-python 0.5's CompiledRunner, three times as fast, gets '!has(...)' wrong.
    environment = _environment()
    return environment.program(environment.compile(rule))


@cache
def _environment() -> Any:
    return celpy.Environment()


def _to_cel(schema: Schema, value: Any) -> Any:
    """A JSON value as the CEL type that its schema declares: a number without a fraction may still be a double."""
    if schema.get("type") == "number" and isinstance(value, int | float) and not isinstance(value, bool):
        return celtypes.DoubleType(value)
    if isinstance(value, dict):
        fields, rest = schema.get("properties", {}), schema.get("additionalProperties", {})
        return celtypes.MapType(
            {celtypes.StringType(key): _to_cel(fields.get(key, rest), item) for key, item in value.items()}
        )
    if isinstance(value, list):
        return celtypes.ListType([_to_cel(schema.get("items", {}), item) for item in value])
    return celpy.json_to_cel(value)


def _duplicates(schema: Schema, value: list[Any], path: Field) -> Iterator[Violation]:
    kind = schema.get("x-kubernetes-list-type")
    if kind not in ("set", "map"):
        return
    keys = schema.get("x-kubernetes-list-map-keys", [])
    seen: list[Any] = []
    for index, item in enumerate(value):
        identity = [item.get(key) for key in keys] if kind == "map" and isinstance(item, dict) else item
        if identity in seen:
            named = identity[0] if kind == "map" and isinstance(item, dict) else item
            yield Violation((*path, index), f"{named} is there twice")
        seen.append(identity)
