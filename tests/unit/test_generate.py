"""What is generated: a structural schema, an editors' schema that agrees with it, files that are up to date."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from support.manifests import Case, cases
from support.schemas import nodes
from tunesmith_api.generate.__main__ import GENERATED
from tunesmith_api.generate.crd import crd, job_schema
from tunesmith_api.generate.editors import editor_schema
from tunesmith_api.generate.files import differing, write
from tunesmith_api.generate.reference import reference_page

ROOT = Path(__file__).parents[2]
EDITORS = jsonschema.Draft7Validator(editor_schema())

# Problems that only CEL, a list type or the metadata's own rules can see, which editors do not know.
_BEYOND_EDITORS = (
    "a source",
    "a bare name",
    "lora without",
    "full training that goes on",
    "a shape for",
    "more in memory",
    "a step",
    "two GPUs",
    "a GPU by",
    "a system prompt",
    "a text that",
    "a dataset and a percent",
    "a quantization that cannot",
    "an ideal",
    "a stage twice",
    "a label name",
)


def test_what_is_committed_is_what_the_models_say() -> None:
    """'make generate' was run."""
    assert differing(ROOT, GENERATED) == []


def test_the_schema_is_structural() -> None:
    """No reference, no union, no null, nothing that apiextensions.k8s.io/v1 refuses."""
    forbidden = {"$ref", "$defs", "oneOf", "allOf", "not", "const", "title", "definitions", "patternProperties"}
    found = [(path, forbidden & node.keys()) for path, node in nodes(job_schema()) if forbidden & node.keys()]
    unions = [
        path for path, node in nodes(job_schema()) if "anyOf" in node and not node.get("x-kubernetes-int-or-string")
    ]
    typeless = [
        path
        for path, node in nodes(job_schema())
        if "type" not in node
        and not node.get("x-kubernetes-int-or-string")
        and not node.get("x-kubernetes-preserve-unknown-fields")
    ]
    assert (found, unions, typeless) == ([], [], [])


def test_no_field_of_the_spec_is_opaque() -> None:
    """A map whose names have a pattern must not turn into a bag of anything."""
    spec = job_schema()["properties"]["spec"]
    assert [path for path, node in nodes(spec) if "x-kubernetes-preserve-unknown-fields" in node] == []


def test_a_default_of_an_object_keeps_the_rules_of_the_object() -> None:
    """The API server applies them to the default as it stands: an empty object would make it refuse the CRD."""
    spec = job_schema()["properties"]["spec"]["properties"]
    assert spec["training"]["properties"]["systemPrompt"]["default"] == {"mode": "Keep"}
    assert spec["gates"]["default"]["maxPerplexityIncrease"] == 0.5


def test_the_crd_is_what_kubectl_users_expect() -> None:
    """Short name, status subresource, columns."""
    spec = crd()["spec"]
    version = spec["versions"][0]
    assert spec["names"]["shortNames"] == ["ftj"]
    assert version["subresources"] == {"status": {}}
    assert [column["name"] for column in version["additionalPrinterColumns"] if not column.get("priority")] == [
        "Phase",
        "Progress",
        "Loss",
        "Passed",
        "Age",
        "Message",
    ]


def test_kubectl_can_apply_the_crd() -> None:
    """It keeps what it applies in an annotation, which holds 256 KiB (apimachinery, TotalAnnotationSizeLimitB)."""
    assert len(json.dumps(crd())) < 200_000


def test_every_column_shows_a_field_that_exists() -> None:
    """A column of nothing stays empty without a word."""
    known = {f".{path}" for path, _ in nodes(job_schema())} | {".metadata.creationTimestamp"}
    columns = crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    assert set() == {column["jsonPath"] for column in columns} - known


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_editors_agree(case: Case) -> None:
    """The editors' schema takes every good manifest, and refuses every bad one that JSON schema can tell."""
    wrong = list(EDITORS.iter_errors(yaml.safe_load(case.text)))
    if case.name == "null is as good as absent":
        return
    assert bool(case.problems and not case.name.startswith(_BEYOND_EDITORS)) == bool(wrong), wrong


def test_the_reference_page_shows_every_field() -> None:
    """Apart from the shapes that Kubernetes itself describes."""
    page = reference_page()
    spec = job_schema()["properties"]["spec"]
    own = ("spec.stages[].affinity.", "spec.stages[].tolerations[].", "spec.stages[].resources.")
    fields = [path for path, _ in nodes(spec, "spec") if "." in path and not path.startswith(own)]
    missing = [
        path for path in fields if f"`{path.rpartition('.')[2].removesuffix('[]')}`" not in page and "{}" not in path
    ]
    assert missing == []


def test_check_names_what_differs_and_changes_nothing(tmp_path: Path) -> None:
    """.ci/run fails with the names of the files."""
    for path in GENERATED:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    page = tmp_path / "docs/reference/manifest.md"
    page.write_text("old")
    command = [sys.executable, "-m", "tunesmith_api.generate", "--check", "--root", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, page.read_text()) == (1, "old")
    assert "docs/reference/manifest.md" in run.stderr
    assert "finetunejobs.yaml" not in run.stderr


def test_writing_makes_check_pass(tmp_path: Path) -> None:
    """From nothing, and a second time there is nothing to do."""
    assert set(GENERATED) == set(write(tmp_path, GENERATED))
    assert (differing(tmp_path, GENERATED), write(tmp_path, GENERATED)) == ([], [])
