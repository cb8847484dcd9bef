"""From the models to a JSON schema that editors check and complete manifests with."""

from tunesmith_api.generate.crd import job_schema
from tunesmith_api.generate.structural import Schema, rewrite
from tunesmith_api.spec import API_VERSION, KIND, OBJECT_METADATA


def editor_schema() -> Schema:
    """A JSON schema (draft 7, which most editors read) of a manifest: what the CRD's says, and no unknown field.

    The status is left out, since nobody writes it; CEL rules are left out, since editors do not know them.
    """
    job = job_schema()
    fields = job["properties"]
    name = fields["metadata"]["properties"]["name"]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": KIND,
        "description": job["description"],
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": KIND},
            "metadata": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {field: {} for field in OBJECT_METADATA} | {"name": name},
            },
            "spec": rewrite(fields["spec"], _plain),
            "status": {"type": "object"},
        },
    }


def _plain(node: Schema) -> Schema:
    plain = {key: value for key, value in node.items() if not key.startswith("x-kubernetes-")}
    # int64 and double are Kubernetes' words for what JSON schema says by the type alone.
    plain = {key: value for key, value in plain.items() if key != "format"}
    if "properties" in plain:
        plain["additionalProperties"] = False
    if plain.pop("exclusiveMinimum", False):
        plain["exclusiveMinimum"] = plain.pop("minimum")
    if node.get("x-kubernetes-int-or-string"):
        plain["type"] = ["integer", "string"]
    if node.get("x-kubernetes-list-type") == "set":
        plain["uniqueItems"] = True
    return plain
