"""The tables of manifests and of changes, by the real API server: it refuses what `tunesmith validate` does."""

from typing import Any

import httpx
import pytest

from support.control_plane import ControlPlane
from support.manifests import Case, Change, cases, changes

_DRY = {"dryRun": "All", "fieldValidation": "Strict"}


def jobs_of(namespace: str) -> str:
    return f"/apis/tunesmith.dev/v1alpha1/namespaces/{namespace}/finetunejobs"


@pytest.fixture(scope="module")
def everyone(plane: ControlPlane) -> str:
    """A namespace that nothing is left in."""
    # Tests that a worker takes over from another come in several portions, and each asks for this anew.
    return str(plane.create("/api/v1/namespaces", {"metadata": {"generateName": "admission-"}})["metadata"]["name"])


def refused(answer: httpx.Response) -> str:
    """What the API server says against an object; nothing if it takes it."""
    return "" if answer.is_success else str(answer.json()["message"])


@pytest.mark.parametrize("case", [case for case in cases() if not case.local], ids=lambda case: case.name)
def test_the_api_server_takes_what_the_local_check_takes(plane: ControlPlane, everyone: str, case: Case) -> None:
    """kubectl asks for strict validation: a field that is not known is refused there too."""
    meta = {**case.manifest.get("metadata", {})}
    meta.pop("namespace", None)
    body = {**case.manifest, "metadata": meta}
    said = refused(plane.client.post(jobs_of(everyone), json=body, params=_DRY))

    assert bool(said) == bool(case.problems), said or "taken"
    assert [path for path, _ in case.problems if path not in said] == []


@pytest.mark.parametrize("number", range(len(changes())), ids=lambda number: changes()[number].name)
def test_the_api_server_refuses_the_changes_that_the_local_check_refuses(
    plane: ControlPlane, everyone: str, number: int
) -> None:
    """With the field, and nothing else."""
    change: Change = changes()[number]
    name = f"change-{number}"
    old: dict[str, Any] = {**change.old, "metadata": {"name": name}}
    made = plane.create(jobs_of(everyone), old)
    new = {**change.new, "metadata": {"name": name, "resourceVersion": made["metadata"]["resourceVersion"]}}
    said = refused(plane.client.put(f"{jobs_of(everyone)}/{name}", json=new, params=_DRY))

    assert bool(said) == bool(change.refused), said or "taken"
    assert [path for path in change.refused if path not in said] == []
