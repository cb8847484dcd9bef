"""Walks through a structural schema, and values that a schema describes."""

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node with its path, the outer ones first."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}".removeprefix("."))
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}{mark}")


def rules(schema: dict[str, Any]) -> list[dict[str, str]]:
    """Every CEL rule, each once."""
    found = [rule for _, node in nodes(schema) for rule in node.get("x-kubernetes-validations", [])]
    return list({(rule["rule"], rule["message"]): rule for rule in found}.values())


def values(schema: dict[str, Any], definitions: dict[str, Any] | None = None) -> st.SearchStrategy[Any]:
    """What a JSON schema of pydantic's describes, as far as the settings of stages need it: no patterns."""
    named = definitions or schema.get("$defs", {})
    match schema:
        case {"$ref": path}:
            return values(named[path.rpartition("/")[2]], named)
        case {"anyOf": options}:
            return st.one_of(*(values(option, named) for option in options))
        case {"enum": words}:
            return st.sampled_from(words)
        case {"type": "object", "properties": fields}:
            return st.fixed_dictionaries({name: values(field, named) for name, field in fields.items()})
        case {"type": "array", "items": items}:
            return st.lists(values(items, named), max_size=3)
    return _plain_values(schema)


def _plain_values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    least, most = schema.get("minimum"), schema.get("maximum")
    # Without -0.0, which equals 0.0 and is spelt otherwise.
    numbers = st.floats(least, most, allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)
    strategies: dict[str, st.SearchStrategy[Any]] = {
        "string": st.text(min_size=schema.get("minLength", 0), max_size=8),
        "integer": st.integers(least, most),
        "number": numbers,
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return strategies[schema["type"]]
