"""From a manifest's text to a `FineTuneJob`, or to everything that is wrong with it."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tunesmith.cel import Violation, find
from tunesmith.explain import explain, explain_metadata, explain_source
from tunesmith.kubernetes_yaml import Document, read_documents
from tunesmith.problems import ManifestInvalid, Problem, render
from tunesmith_api.fields import Field, spell
from tunesmith_api.sources import SOURCE_RULE
from tunesmith_api.spec import API_VERSION, KIND, OBJECT_METADATA, FineTuneJob

__all__ = ["ManifestInvalid", "ManifestText", "Problem", "load_manifest", "parse_manifest", "read_manifest", "render"]

# As a file's name, what kubectl takes it for.
STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class ManifestText:
    """A manifest as it was read: how messages name it, what it says, and the folder where its relative paths start."""

    name: str
    text: str
    folder: File


def read_manifest(file: File) -> ManifestText:
    """Reads a file, or standard input where it is called ``-``; once, since a pipe gives its text only once.

    Relative paths start at the file's folder, at the working folder where the text comes through a pipe. Raises
    ManifestInvalid where the file cannot be read.
    """
    standard = str(file) == STANDARD_INPUT
    name = "standard input" if standard else str(file)
    try:
        text = sys.stdin.buffer.read().decode() if standard else file.read_text(encoding="utf-8")
    except OSError as error:
        what = f"the file cannot be read: {error.strerror}"
        raise ManifestInvalid([Problem("", what)], name, "Check the path.") from None
    except UnicodeDecodeError:
        raise ManifestInvalid([Problem("", "the file is no text in UTF-8")], name) from None
    folder = file.resolve().parent if not standard and file.is_file() else File.cwd()
    return ManifestText(name, text, folder)


def load_manifest(manifest: ManifestText) -> FineTuneJob:
    """The one FineTuneJob that a text holds in YAML or JSON.

    Raises ManifestInvalid with all problems and their lines where it holds none that can be used.
    """
    return parse_manifest(manifest.text, manifest.name)


def parse_manifest(text: str, source: str = "") -> FineTuneJob:
    """The job that a text describes; `source` names the text in messages. Raises ManifestInvalid."""
    try:
        return _job(_only_document(read_documents(text)))
    except ManifestInvalid as error:
        raise ManifestInvalid(list(error.problems), source) from None


def _only_document(documents: list[Document]) -> Document:
    if not documents:
        raise ManifestInvalid([Problem("", "the file is empty", f"it must hold a {KIND}")])
    if len(documents) > 1:
        kinds = ", ".join(_kind_of(document.value) for document in documents)
        what = f"the file holds {len(documents)} objects ({kinds})"
        raise ManifestInvalid([Problem("", what, f"give the {KIND} a file of its own")])
    document = documents[0]
    if not isinstance(document.value, dict):
        raise ManifestInvalid([Problem("", "this is no Kubernetes object", f"it must be a {KIND}")])
    problems = list(_type_problems(document))
    if problems:
        raise ManifestInvalid(problems)
    return document


def _kind_of(value: Any) -> str:
    return str(value.get("kind", "unknown")) if isinstance(value, dict) else "unknown"


def _type_problems(document: Document) -> list[Problem]:
    """A file that is about something else has this one problem, not a hundred."""
    wanted = {"apiVersion": API_VERSION, "kind": KIND}
    problems = []
    for field, right in wanted.items():
        found = document.value.get(field)
        if found != right:
            what = "this is missing" if found is None else f"{found} is nothing that Tunesmith can run"
            problems.append(Problem(field, what, f"it must be {right}", document.lines.get((field,))))
    return problems


def _job(document: Document) -> FineTuneJob:
    value = _without_nulls(document.value)
    # The status is the operator's; in a file it is a left-over of 'kubectl get -o yaml'.
    value.pop("status", None)
    found: list[tuple[Field, str, str]] = [explain_metadata(name) for name in _unknown_metadata(value)]
    found += _null_method(document.value)
    job: FineTuneJob | None = None
    try:
        # As JSON, in strict mode and by the outside names, a value is taken exactly where the API server takes it.
        job = FineTuneJob.model_validate_json(json.dumps(value), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        found += [explain(detail) for detail in details if not _miscounted(detail)]
    wrong = [path for path, _, _ in found]
    broken = (violation for violation in find(value) if violation.evaluated or not wrong)
    found += [_broken(violation, value) for violation in broken if not _overlaps(violation.path, wrong)]
    if job is None or found:
        raise ManifestInvalid([_problem(*problem, document) for problem in found])
    return job


def _unknown_metadata(value: dict[str, Any]) -> list[str]:
    """The model takes any field there, as it must from a cluster; the API server warns of those that it drops."""
    metadata = value.get("metadata")
    return [name for name in metadata if name not in OBJECT_METADATA] if isinstance(metadata, dict) else []


def _null_method(value: dict[str, Any]) -> list[tuple[Field, str, str]]:
    """null means the default everywhere; only here it looks like the word for its very opposite."""
    spec = value.get("spec")
    training = spec.get("training") if isinstance(spec, dict) else None
    if not isinstance(training, dict) or training.get("method", "") is not None:
        return []
    cure = "write None to train nothing, or LoRA, or leave the field out for LoRA"
    return [(("spec", "training", "method"), "null, or nothing, is no method", cure)]


def _broken(violation: Violation, value: Any) -> tuple[Field, str, str]:
    """The place and the rule; a number is shown too, and a source, since mostly its scheme was forgotten."""
    try:
        for step in violation.path:
            value = value[step]
    except (KeyError, IndexError):  # the rule is about a field that is absent, or about a default
        return violation.path, violation.message, ""
    if violation.message == SOURCE_RULE:
        return violation.path, *explain_source(value, violation.message)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return violation.path, f"{violation.path[-1]} is {value}", violation.message
    return violation.path, violation.message, ""


def _miscounted(error: ErrorDetails) -> bool:
    """Pydantic counts only the valid entries of a list, and then calls it too short; the entries are named anyway."""
    return error["type"] == "too_short" and bool(error["input"])


def _without_nulls(value: Any) -> Any:
    """The API server takes a field that is null for one that is absent."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _overlaps(path: Field, wrong: list[Field]) -> bool:
    """Whether a rule at `path` may be broken only since a field in it, or around it, is wrong already."""
    return any(path[: len(other)] == other or other[: len(path)] == path for other in wrong)


def _problem(path: Field, what: str, right: str, document: Document) -> Problem:
    """With the line of the field or, where it is absent, of what should hold it."""
    known = next((document.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in document.lines), None)
    return Problem(spell(path), what, right, known)
