"""From what the API server answers when it does not do as it is asked, to the sentence for whoever has asked."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from tunesmith.cluster.problem import ClusterProblem

_INSTALL = (
    "Install Tunesmith's chart (charts/tunesmith), or the CRD alone: kubectl apply -f crds/ in its source folder."
)
# The manifest is at fault: it cannot be read, breaks a rule, is too large, or another owns its fields.
_OF_THE_MANIFEST = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)


def problem_of(status: int, body: bytes, server: str) -> ClusterProblem:
    """The problem behind an answer from 400 on; `body` is a metav1.Status where the API server itself wrote it."""
    told = _read(body)
    said = str(told.get("message") or f"it answered {status}")
    if status == HTTPStatus.UNAUTHORIZED:
        hint = "Log in again (kubectl is refused as well), or name another --context."
        return ClusterProblem(f"the API server {server} does not know who you are", hint, status=status)
    if status == HTTPStatus.FORBIDDEN:
        hint = "'kubectl auth can-i --list' says what you may do; ask for more, or name another --namespace."
        return ClusterProblem(f"the API server refuses: {said}", hint, status=status)
    if status == HTTPStatus.NOT_FOUND:
        return _absent(told, said)
    if status in _OF_THE_MANIFEST:
        return ClusterProblem(f"the API server refuses: {said}", _cure(status), code=2, status=status)
    passing = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
    message = f"the API server {server} cannot answer: {said}"
    return ClusterProblem(message, "Try again in a while.", status=status, passing=passing)


def unreachable(server: str, why: str) -> ClusterProblem:
    """There is no answer at all."""
    hint = "Check the network and the context (kubectl config current-context), or name another --context."
    return ClusterProblem(f"the API server {server} cannot be reached: {why}", hint, passing=True)


def _absent(told: Mapping[str, Any], said: str) -> ClusterProblem:
    details = told.get("details") or {}
    status = HTTPStatus.NOT_FOUND
    if not told:
        # What is no part of the API is answered in plain text.
        return ClusterProblem("the cluster knows no FineTuneJob", _INSTALL)
    if details.get("kind") == "namespaces":
        name = details.get("name")
        hint = f"Make it with kubectl create namespace {name}, or name another --namespace."
        return ClusterProblem(f"there is no namespace {name}", hint, code=2)
    return ClusterProblem(said, "'kubectl get finetunejobs --all-namespaces' lists what there is.", status=status)


def _cure(status: int) -> str:
    if status == HTTPStatus.CONFLICT:
        return "Somebody else owns these fields: change them there, or take them over with --force-conflicts."
    return "Correct the manifest; what cannot be changed once the job exists needs a job of another name."


def _read(body: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
