"""YAML as the API server itself reads it, which takes manifests as YAML too: what the local check makes of the same."""

import json
import textwrap
from http import HTTPStatus
from typing import Any

import pytest

from support.control_plane import ControlPlane
from support.manifests import FOLDER
from support.waiting import wait_until

SCALARS: list[tuple[str, Any]] = json.loads((FOLDER / "scalars.json").read_text())
GROUP = "tests.tunesmith.dev"
# Anything may stand under spec, so that nothing but the reading is looked at.
_ANYTHING = {
    "type": "object",
    "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
}


@pytest.fixture(scope="module")
def texts(plane: ControlPlane) -> str:
    """The address of a resource without a schema."""
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": _ANYTHING}}
    names = {"plural": "texts", "singular": "text", "kind": "Text", "listKind": "TextList"}
    spec = {"group": GROUP, "scope": "Cluster", "names": names, "versions": [version]}
    definition = {"metadata": {"name": f"texts.{GROUP}"}, "spec": spec}
    # There already where a worker takes tests over from another, which asks for this anew.
    made = plane.client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=definition)
    assert made.status_code in (HTTPStatus.CREATED, HTTPStatus.CONFLICT), made.json()
    address = f"/apis/{GROUP}/v1/texts"
    wait_until(lambda: plane.client.get(address).is_success, "the resource to be served")
    return address


@pytest.mark.parametrize(("text", "expected"), SCALARS, ids=[text for text, _ in SCALARS])
def test_the_api_server_reads_what_the_local_check_reads(
    plane: ControlPlane, texts: str, text: str, expected: Any
) -> None:
    """null stands for a refusal."""
    head = f"apiVersion: {GROUP}/v1\nkind: Text\nmetadata: {{name: text}}\nspec:\n"
    answer = plane.client.post(
        texts,
        content=head + textwrap.indent(text, "  "),
        headers={"Content-Type": "application/yaml"},
        params={"dryRun": "All", "fieldValidation": "Strict"},
    )

    if expected is None:
        assert answer.is_client_error, answer.json()
        return
    read, wanted = held(answer.json()["spec"]), held(expected)
    assert read == wanted
    assert {name: type(value) for name, value in read.items()} == {name: type(value) for name, value in wanted.items()}


def held(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with their numbers as the API server holds them: what int64 has no room for is a float."""
    return {name: _held(value) for name, value in fields.items()}


def _held(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value
