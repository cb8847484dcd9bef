"""From a validation error of a model to what a person reads; the schema of the CRD says what would have been right."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

from tunesmith.cel import schema_of_jobs
from tunesmith.resolve.datasets import ROW_FILES
from tunesmith.resolve.uri import Scheme
from tunesmith_api.fields import Field
from tunesmith_api.generate.structural import Schema
from tunesmith_api.placement import DNS_LABEL, GPU_MEMORY, LABEL_KEY, LABEL_VALUE, OBJECT_NAME, QUANTITY
from tunesmith_api.quantizations import ALIASES
from tunesmith_api.sources import HTTP_URL, SOURCE_RULE
from tunesmith_api.spec import OBJECT_METADATA, REPOSITORY, STORE_URI

_SHOWN_CHARACTERS = 60
# org/name, which could as well be a file in a folder if it does not end like one with rows.
_ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

# By what other names fields are known, folded: to PEFT and Transformers, and where a source is called after what it is.
# The first that the place has is meant.
_CALLED_ELSEWHERE = {
    "r": ("rank",),
    "loraalpha": ("alpha",),
    "loradropout": ("dropout",),
    "lr": ("learningRate",),
    "numtrainepochs": ("epochs",),
    "perdevicetrainbatchsize": ("batchSize",),
    **dict.fromkeys(("id", "name", "path", "repo", "uri", "url"), ("source", "uri")),
}
_SPEC_FIELD = ("spec", "a field")
# A name that more places have says nothing of which was meant.
_FEW = 3

_PATTERNS = {
    DNS_LABEL: "a name of small letters, digits and '-'",
    HTTP_URL: "an address such as https://minio.example.org:9000",
    REPOSITORY: "a repository: org/name",
    STORE_URI: "s3://bucket/prefix, or file://folder for local runs",
    OBJECT_NAME: "the name of a Kubernetes object (small letters, digits, '-' and '.')",
    LABEL_VALUE: "the value of a Kubernetes label (letters, digits, '-', '_' and '.')",
    LABEL_KEY: "the name of a Kubernetes label, such as example.org/team",
    GPU_MEMORY: "a number from 1 on with its unit (Mi, Gi, Ti, G or T), such as 24Gi",
    QUANTITY: "a Kubernetes quantity, such as 4, 500m or 16Gi",
}


def explain(error: ErrorDetails) -> tuple[Field, str, str]:
    """The place, what is wrong there and what would be right."""
    path: Field = tuple(error["loc"])
    if path and path[-1] == "[key]":
        return path[:-2], f"{_shown(error['input'])} is no valid name here", f"it must be {_PATTERNS[LABEL_KEY]}"
    schema = schema_at(path)
    if error["type"] == "extra_forbidden":
        return path, "there is no such field", _instead(path, error["input"])
    if error["type"] == "missing":
        return path, "this is missing", _source_rule(schema) or f"it must be {allowed(schema)}"
    if error["type"].endswith("_type") or error["type"] in ("int_from_float", "model_attributes_type"):
        return path, f"{_shown(error['input'])} is {_kind(error['input'])}", f"it must be {allowed(schema)}"
    if error["type"] in ("enum", "literal_error"):
        return path, f"{_shown(error['input'])} is not one of the allowed words", _nearest(error["input"], schema)
    return path, *_out_of_bounds(error, schema)


def explain_metadata(name: str) -> tuple[Field, str, str]:
    """The place of a field of the metadata that no object of Kubernetes has, and what was probably meant."""
    near = _closest(name, list(OBJECT_METADATA))
    own = "name, namespace, labels and annotations"
    return (
        ("metadata", name),
        "there is no such field",
        f"did you mean {near}?" if near else f"the fields here are {own}, and those that Kubernetes fills in",
    )


def explain_source(value: object, rule: str) -> tuple[str, str]:
    """What is wrong with an address that breaks the `rule` of addresses, and what would be right."""
    if not isinstance(value, str) or "://" in value:
        return f"{_shown(value)} is not allowed", rule
    on_hub = _ON_HUB.fullmatch(value) and not value.lower().endswith(ROW_FILES)
    return _without_scheme(value, f"hf://{value}" if on_hub else _meant_file(value), rule)


def _without_scheme(value: str, meant: str, rule: str) -> tuple[str, str]:
    return f"{_shown(value)} has no scheme", f"did you mean {meant}? {rule[0].upper()}{rule[1:]}"


def _meant_file(value: str) -> str:
    """An address for a path, or for one that lacks slashes after its scheme; an absolute path keeps its own."""
    scheme, colon, rest = value.partition(":")
    if not colon or scheme not in set(Scheme):
        return f"file://{value}"
    return f"{scheme}://{rest if scheme == Scheme.FILE else rest.lstrip('/')}"


def _source_rule(schema: Schema) -> str:
    ruled = schema.get("x-kubernetes-validations", ())
    return SOURCE_RULE if any(rule["message"] == SOURCE_RULE for rule in ruled) else ""


def schema_at(path: Field) -> Schema:
    """The schema of the field at a path, or an empty one where there is no such field."""
    schema = schema_of_jobs()
    for step in path:
        if isinstance(step, int):
            schema = schema.get("items", {})
        else:
            schema = schema.get("properties", {}).get(step, schema.get("additionalProperties", {}))
    return schema


def allowed(schema: Schema) -> str:
    """What a field may hold, in words."""
    if "enum" in schema:
        return _either(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return _PATTERNS[QUANTITY]
    kind = schema.get("type", "")
    if kind == "string":
        return _allowed_string(schema)
    names = ", ".join(schema.get("properties", ()))
    bounds = _between(schema.get("minimum"), schema.get("maximum"))
    if schema.get("exclusiveMinimum"):
        bounds = bounds.replace("from", "above").replace(" to ", " and up to ")
    words = {
        "integer": f"a whole number {bounds}",
        "number": f"a number {bounds}",
        "array": f"a list of {max(1, schema.get('minItems', 0))} to {schema.get('maxItems', 0):,} entries",
        "boolean": "true or false",
    }
    return words.get(kind, f"an object with fields of {names}" if names else "an object of names and values").rstrip()


def _allowed_string(schema: Schema) -> str:
    pattern = schema.get("pattern")
    length = _between(schema.get("minLength"), schema.get("maxLength")).removeprefix("from ")
    if pattern in _PATTERNS:
        return f"{_PATTERNS[pattern]}, {length} characters long"
    return f"a string of {length} characters" + (f" that matches {pattern}" if pattern else "")


def _between(low: float | None, high: float | None) -> str:
    if high is None:
        return "" if low is None else f"at least {low:,}"
    return f"at most {high:,}" if low is None else f"from {low:,} to {high:,}"


def _out_of_bounds(error: ErrorDetails, schema: Schema) -> tuple[str, str]:
    value = error["input"]
    if schema.get("pattern") == STORE_URI and "://" not in value:
        return _without_scheme(value, _meant_file(value), f"it must be {_PATTERNS[STORE_URI]}")
    words = {
        "greater_than": "is too small",
        "greater_than_equal": "is too small",
        "less_than_equal": "is too large",
        "string_too_short": "is too short",
        "string_too_long": "is too long",
        "too_short": "has too few entries",
        "too_long": "has too many entries",
    }
    return f"{_shown(value)} {words.get(error['type'], 'is not allowed')}", f"it must be {allowed(schema)}"


def _nearest(value: object, schema: Schema) -> str:
    words = [str(word) for word in schema.get("enum", ())]
    # A list or an object may stand there too, and neither is a key of a table.
    if isinstance(value, str) and ALIASES.get(value) in words:
        return f"{value} is another name of llama.cpp for {ALIASES[value]}: write that"
    near = _closest(str(value), words)
    # First what was probably meant: the list may be long.
    return f"did you mean {near}? It must be {allowed(schema)}" if near else f"it must be {allowed(schema)}"


def _instead(path: Field, value: object) -> str:
    """Where a field that does not exist was probably meant to be."""
    name = str(path[-1])
    siblings = list(schema_at(path[:-1]).get("properties", ()))
    if path[-2:-1] == ("columns",) and value in siblings:
        return f"it is turned round: the field is {value}, and the column's name its value; write {value}: {name}"
    meant = [known for known in _CALLED_ELSEWHERE.get(_folded(name), ()) if known in siblings]
    if near := meant[0] if meant else _closest(name, siblings):
        return f"did you mean {near}?"
    places = [place for place, known in _all_fields("", schema_of_jobs()) if _folded(known) == _folded(name)]
    # A part of the spec does not lack what the object itself has; directly in the spec that is what was meant.
    of_object = [place for place in places if place.startswith("metadata.")]
    places = of_object if of_object and len(path) <= len(_SPEC_FIELD) else [p for p in places if p not in of_object]
    if 0 < len(places) <= _FEW:
        return f"did you mean {_either(places)}?"
    return f"the fields here are {', '.join(siblings)}" if siblings else ""


def _all_fields(place: str, schema: Schema) -> Iterator[tuple[str, str]]:
    for name, field in schema.get("properties", {}).items():
        if name == "status":
            continue
        path = f"{place}.{name}".removeprefix(".")
        yield path, name
        yield from _all_fields(path, field)
        yield from _all_fields(f"{path}[]", field.get("items", {}))


def _closest(word: str, words: list[str]) -> str | None:
    """The word that was probably meant: the same but for case, '-' and '_', or else one that differs little."""
    folded: Mapping[str, str] = {_folded(known): known for known in words}
    # 0.75: one slip in four letters; below it difflib offers words that mean something else.
    near = get_close_matches(_folded(word), folded, n=1, cutoff=0.75)
    return folded[near[0]] if near else None


def _folded(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


def _either(words: list[Any]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def _kind(value: object) -> str:
    words = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return words.get(type(value), "nothing" if value is None else "an object")
