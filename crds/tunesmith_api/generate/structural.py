"""From a pydantic model to a structural schema as apiextensions.k8s.io/v1 wants it: no references, no null.

What a field does without is absent, never null; what has a default says so, and an object whose fields have defaults
has these as its own. Bounds, descriptions and CEL rules are kept.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

# What of JSON schema and of Kubernetes' extensions is taken over as it stands.
_KEPT = (
    "type",
    "format",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "maxProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
)
_FORMATS = {"integer": "int64", "number": "double"}


def structural_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of a model under its outside names."""
    source = model.model_json_schema(by_alias=True)
    return _convert(source, source.get("$defs", {}))


def _convert(node: Schema, definitions: Schema) -> Schema:
    flat = _flatten(node, definitions)
    schema: Schema = {key: flat[key] for key in ("description",) if key in flat}
    if flat.get("x-kubernetes-int-or-string"):
        return schema | _int_or_string(flat)
    if "const" in flat:
        flat["enum"] = [flat["const"]]
    schema |= {key: deepcopy(flat[key]) for key in _KEPT if key in flat}
    if "type" not in flat:
        return schema | {"x-kubernetes-preserve-unknown-fields": True}
    if flat["type"] in _FORMATS:
        schema["format"] = _FORMATS[flat["type"]]
    if "exclusiveMinimum" in flat:
        # A number in JSON schema since draft 6, a flag beside the bound in OpenAPI 3.0. A bound such as 0.01 would not
        # do: the API server cuts it to a whole number where the value is one, and takes 0.
        schema |= {"minimum": flat["exclusiveMinimum"], "exclusiveMinimum": True}
    if flat["type"] == "object":
        schema |= _object(flat, definitions)
    if flat["type"] == "array":
        schema["items"] = _convert(flat["items"], definitions)
    if "x-kubernetes-validations" in flat:
        schema["x-kubernetes-validations"] = deepcopy(flat["x-kubernetes-validations"])
    return schema


def _flatten(node: Schema, definitions: Schema) -> Schema:
    """The node with its reference followed and its null taken away; the field's own words win over its type's."""
    own = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
    inner: Schema = {}
    if "$ref" in node:
        inner = _flatten(definitions[node["$ref"].rpartition("/")[2]], definitions)
    variants = [variant for variant in node.get("anyOf", []) if variant.get("type") != "null"]
    if len(variants) == 1:
        inner = _flatten(variants[0], definitions)
    if len(variants) > 1:
        message = f"a structural schema knows no union: {variants}"
        raise TypeError(message)
    flat = inner | own
    ruled = inner.get("x-kubernetes-validations", []) + own.get("x-kubernetes-validations", [])
    if ruled:
        flat["x-kubernetes-validations"] = ruled
    return flat


def _int_or_string(flat: Schema) -> Schema:
    variants = [{"type": "integer"}, {"type": "string"}]
    bounds = {key: flat[key] for key in ("pattern", "maxLength")}
    return {"anyOf": variants, "x-kubernetes-int-or-string": True} | bounds


def _object(flat: Schema, definitions: Schema) -> Schema:
    if "properties" not in flat:
        # A map whose keys have a pattern arrives as patternProperties, which a structural schema does not know.
        values = next(iter(flat.get("patternProperties", {}).values()), flat.get("additionalProperties", True))
        if values is True:
            return {"x-kubernetes-preserve-unknown-fields": True}
        return {"additionalProperties": _convert(values, definitions)}
    required = flat.get("required", [])
    properties: Schema = {}
    for name, value in flat["properties"].items():
        schema = _convert(value, definitions)
        default = _default(value, schema) if name not in required else None
        properties[name] = schema if default is None else schema | {"default": default}
    return {"properties": properties} | ({"required": list(required)} if required else {})


def _default(node: Schema, schema: Schema) -> Any:
    """What an absent field becomes; None: it stays absent, as unset values and empty lists and maps do.

    An object's default names the defaults of its fields, since the API server applies the rules of an object to its
    default as it stands, before it fills in anything.
    """
    if node.get("default") not in (None, "", [], {}):
        return node["default"]
    if "default" in node:
        return None
    fields = schema.get("properties", {}).items()
    return {name: deepcopy(field["default"]) for name, field in fields if "default" in field} or None


def rewrite(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """The schema with every node, the inner ones first, replaced by what `change` makes of it."""
    node = dict(schema)
    if "properties" in node:
        node["properties"] = {name: rewrite(value, change) for name, value in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            node[key] = rewrite(node[key], change)
    return change(node)
