"""Walks through a structural schema."""

from collections.abc import Iterator
from typing import Any


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
