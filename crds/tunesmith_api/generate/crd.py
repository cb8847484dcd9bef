"""From the models to the CRD manifest."""

from typing import Any

from tunesmith_api.generate.structural import Schema, rewrite, structural_schema
from tunesmith_api.spec import JobSpec, Metadata
from tunesmith_api.status import JobStatus

GROUP = "tunesmith.dev"
VERSION = "v1alpha1"

# What a status string may hold where its own model says nothing: as much as a condition's message (metav1.Condition).
_STATUS_STRING = 32_768

# What tools that wait for an object (kstatus, Flux) take for "not yet": without it a job that no operator has seen is
# current to them (kstatus, observedGeneration of the Generic type).
_UNSEEN = {"observedGeneration": -1}

_COLUMNS = (
    ("Phase", "string", ".status.phase", "Where the job stands.", 0),
    ("Progress", "integer", ".status.progress.percent", "How much of the job is done, in percent.", 0),
    ("Loss", "number", ".status.progress.loss", "The training loss of the running or last training.", 0),
    ("Passed", "string", ".status.summary", "How many of the files passed their gates.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "How long the job exists.", 0),
    # Last, since it is long: what is waited for, or why it failed.
    ("Message", "string", ".status.message", "What is happening.", 0),
    ("Stage", "string", ".status.progress.stage", "The stage that runs.", 1),
    ("Suspend", "boolean", ".spec.suspend", "Whether the job is asked to pause.", 1),
    ("Reason", "string", ".status.failure.class", "Why the job failed.", 1),
)


def job_schema() -> Schema:
    """The structural schema of a whole FineTuneJob."""
    name = structural_schema(Metadata)["properties"]["name"]
    return {
        "description": "A base model and a dataset, to be turned into small, measured, ready-to-ship GGUF files.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "maxLength": 63, "description": "tunesmith.dev/v1alpha1"},
            "kind": {"type": "string", "maxLength": 63, "description": "FineTuneJob"},
            # Kubernetes rules all of metadata itself; a CRD may only add to the name (apiextensions.k8s.io/v1).
            "metadata": {
                "type": "object",
                "properties": {"name": {key: name[key] for key in ("type", "pattern", "minLength", "maxLength")}},
            },
            "spec": structural_schema(JobSpec),
            "status": _bounded(_without_defaults(structural_schema(JobStatus))) | {"default": _UNSEEN},
        },
    }


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition of FineTuneJob."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"finetunejobs.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "FineTuneJob",
                "listKind": "FineTuneJobList",
                "plural": "finetunejobs",
                "singular": "finetunejob",
                "shortNames": ["ftj"],
                "categories": ["ai"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
                    "schema": {"openAPIV3Schema": job_schema()},
                }
            ],
        },
    }


def _column(name: str, kind: str, path: str, description: str, priority: int) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})


def _without_defaults(schema: Schema) -> Schema:
    """A status says what is; the API server must not fill in what nobody wrote."""
    return rewrite(schema, lambda node: {key: value for key, value in node.items() if key != "default"})


def _bounded(schema: Schema) -> Schema:
    def bound(node: Schema) -> Schema:
        if node.get("type") == "string" and not {"maxLength", "enum", "format"} & node.keys():
            return node | {"maxLength": _STATUS_STRING}
        return node

    return rewrite(schema, bound)
