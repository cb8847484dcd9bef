"""From the models to the reference page of the manifest (Markdown)."""

import json
from collections.abc import Iterator
from typing import Any

from tunesmith_api.generate.crd import job_schema
from tunesmith_api.generate.structural import Schema
from tunesmith_api.quantizations import ALIASES, QUANTIZATIONS, Quantization, QuantizationType
from tunesmith_api.rules import DEPENDS

_INTRODUCTION = """\
# The manifest

This page is generated from the API's models (`make generate`); it describes `tunesmith.dev/v1alpha1`, kind
`FineTuneJob`. The smallest useful manifest names a model and a dataset, everything else has a default:

```yaml
apiVersion: tunesmith.dev/v1alpha1
kind: FineTuneJob
metadata: {name: support-bot}
spec:
  model: {source: hf://Qwen/Qwen2.5-1.5B-Instruct}
  datasets: [{source: s3://datasets/support.jsonl}]
```

`metadata.name` is a DNS label of at most 40 characters. Where a field has no default, its description says what
happens while it is unset; `tunesmith plan` shows every setting of a job with its value and where it came from.
A field marked *fixed* cannot be changed once the job exists; all others can be changed at any time.
`docs/finetunejob.schema.json` describes the same for editors; a first line
`# yaml-language-server: $schema=PATH/finetunejob.schema.json` in a manifest makes most of them check and complete it.
"""

_QUANTIZATIONS = """\
## Quantization types

Bits per weight are the whole file's for a model of 8 billion parameters; small models keep relatively more in their
embeddings. `imatrix`: whether the type cannot be made without an importance matrix, or is better with one.

| type | bits per weight | imatrix |
|---|---|---|
"""

# Where Kubernetes' own shapes begin, which its own documentation describes.
_KUBERNETES_OWN = ("[].affinity", "[].tolerations[]", "[].resources")


# The same shape as another section's.
_ALREADY_DESCRIBED = ("spec.evaluation.dataset",)


def reference_page() -> str:
    """The whole page."""
    sections = tables("spec", job_schema()["properties"]["spec"])
    rows = "\n".join(_quantization(name, known) for name, known in QUANTIZATIONS.items())
    aliases = ", ".join(f"`{alias}` (write `{meant}`)" for alias, meant in ALIASES.items())
    return f"{_INTRODUCTION}\n{sections}\n{_QUANTIZATIONS}{rows}\n\nRefused, since they are other names: {aliases}.\n"


def tables(path: str, schema: Schema) -> str:
    """A section for each object in a structural schema whose root is called `path`."""
    return "\n".join(_section(*each) for each in _objects(path, schema))


def _objects(path: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Every object with fields, the outer ones first, with its path."""
    if path.endswith(_KUBERNETES_OWN) or path in _ALREADY_DESCRIBED or set(schema.get("properties", ())) == {"name"}:
        return
    if schema.get("type") == "array":
        yield from _objects(f"{path}[]", schema["items"])
    if "properties" in schema:
        yield path, schema
        for name, value in schema["properties"].items():
            yield from _objects(f"{path}.{name}", value)


def _section(path: str, schema: Schema) -> str:
    rules = schema.get("x-kubernetes-validations", [])
    fixed = {rule.get("fieldPath", "").removeprefix(".") for rule in rules if "cannot be changed" in rule["message"]}
    required = schema.get("required", [])
    lines = [f"## {path}", "", schema["description"], "", "| field | type | default | |", "|---|---|---|---|"]
    for name, value in schema["properties"].items():
        default = "**required**" if name in required else _default(value)
        remark = " *fixed*" if name in fixed else ""
        lines.append(f"| `{name}` | {_type(value)} | {default} | {_cell(value['description'])}{remark} |")
    stated = [_sentence(rule) for rule in rules if DEPENDS not in rule["message"]]
    return "\n".join([*lines, "", *stated, *([""] if stated else [])])


def _sentence(rule: dict[str, str]) -> str:
    if "fieldPath" in rule:
        return f"* `{rule['fieldPath'].removeprefix('.')}`: {rule['message']}."
    return f"* {rule['message'][0].upper()}{rule['message'][1:]}."


def _default(schema: Schema) -> str:
    if "default" not in schema or schema["type"] == "object":
        return ""
    return f"`{_json(schema['default'])}`"


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _type(schema: Schema) -> str:
    if "enum" in schema:
        words = schema["enum"]
        return "a [type](#quantization-types)" if "Q4_K_M" in words else " \\| ".join(f"`{word}`" for word in words)
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if schema["type"] == "array":
        inner = _type(schema["items"])
        return _bounded(
            f"list of {'types' if inner.startswith('a [') else inner}", _range(schema, "minItems", "maxItems")
        )
    if schema["type"] == "object":
        return _object_type(schema)
    if schema["type"] == "string":
        bounds = _range(schema, "minLength", "maxLength")
        return _bounded("string", f"{bounds} characters" if bounds else "")
    bounds = _range(schema, "minimum", "maximum")
    return _bounded(str(schema["type"]), f"above {bounds}" if schema.get("exclusiveMinimum") else bounds)


def _bounded(what: str, bounds: str) -> str:
    return f"{what}, {bounds}" if bounds else what


def _object_type(schema: Schema) -> str:
    if "additionalProperties" in schema:
        return f"map, {_range(schema, 'minProperties', 'maxProperties')}"
    return "`{name}`" if set(schema["properties"]) == {"name"} else "object"


def _range(schema: Schema, least: str, most: str) -> str:
    low, high = schema.get(least), schema.get(most)
    if high is None:
        return "" if low is None else f"{low:,} or more"
    return f"at most {high:,}" if low is None else f"{low:,} to {high:,}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _quantization(name: QuantizationType, known: Quantization) -> str:
    imatrix = "needed" if known.needs_imatrix else "better" if known.gains_from_imatrix else ""
    return f"| `{name}` | {known.bits_per_weight:.2f} | {imatrix} |"
