"""What a pass leaves behind: the fast double of tests/cluster, for what only the loop decides."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient, Configuration

from support.builders import MODEL
from support.small_cluster import NOON, ROWS, RULES
from tunesmith_api.names import JOB_LABEL
from tunesmith_operator.cache import Cache
from tunesmith_operator.kube import Conflict, Kube
from tunesmith_operator.loop import Operator
from tunesmith_operator.turns import Turns

KEY = ("team", "bot")
# A Job's status an hour after it has failed.
FAILED = {
    "conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": (NOON - timedelta(hours=1)).isoformat()}]
}


def an_object(version: int, **status: Any) -> dict[str, Any]:
    """A FineTuneJob as the API server has it."""
    meta = {"name": "bot", "namespace": "team", "uid": "uid", "resourceVersion": str(version), "generation": 1}
    spec = {"model": MODEL, "datasets": ROWS, "quantizations": ["Q8_0"]}
    return {"metadata": meta | {"creationTimestamp": "2026-11-27T12:00:00Z"}, "spec": spec, "status": status}


@dataclass(frozen=True, slots=True)
class Answering(Kube):
    """An API server that takes everything."""

    written: list[Mapping[str, Any]] = field(default_factory=list)

    async def create_job(self, job: Mapping[str, Any]) -> dict[str, Any]:
        meta = dict(job["metadata"]) | {"uid": "job", "resourceVersion": "5", "creationTimestamp": NOON.isoformat()}
        return json.loads(json.dumps({**job, "metadata": meta}))  # type: ignore[no-any-return]

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        del namespace, event

    async def write_status(self, namespace: str, name: str, version: int, status: Mapping[str, Any]) -> dict[str, Any]:
        del namespace, name
        self.written.append(status)
        return an_object(version + 1, **status)


@dataclass(frozen=True, slots=True)
class Taken(Answering):
    """An API server that has a Job of the name already."""

    there: dict[str, Any] | None = None

    async def create_job(self, job: Mapping[str, Any]) -> dict[str, Any]:
        raise Conflict(job["metadata"]["name"])

    async def job_named(self, namespace: str, name: str) -> dict[str, Any] | None:
        if self.there is None:
            return None
        named = {"name": name, "namespace": namespace, "resourceVersion": "7"}
        return {**self.there, "metadata": named | self.there["metadata"]}


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({"uid": "theirs"}, True),
        ({"uid": "theirs", "labels": {JOB_LABEL: "another"}}, True),
        ({"uid": "theirs", "deletionTimestamp": NOON.isoformat()}, False),
        ({"uid": "ours", "ownerReferences": [{"controller": True, "uid": "uid"}]}, False),
        (None, False),
    ],
    ids=["without labels", "of another job", "about to go", "made before a crash", "gone"],
)
def test_a_job_of_others_that_nobody_here_watches_is_told(there: dict[str, Any] | None, told: bool) -> None:
    """The API server alone knows of it; an event will tell of an own one."""

    async def message() -> str:
        async with ApiClient(Configuration()) as client:
            # Nobody here has seen its pods: of an own one nothing may be concluded.
            kube = Taken(client, there=None if there is None else {"metadata": there, "status": FAILED})
            operator = Operator(Cache(), Turns(), kube, RULES, lambda: NOON)
            operator.cache.see_object(an_object(1))
            await operator.reconcile(KEY)
            return str(kube.written[-1]["message"])

    said = asyncio.run(message())
    assert ("a Job that is not its own has its name: delete bot-prepare" in said) == told, said
    assert "failed" not in said


def test_a_pass_that_has_written_gives_the_job_another_turn_until_there_is_nothing_to_write() -> None:
    """The event of an own write is no news, and what follows from it is the next pass's."""

    async def passes() -> int:
        async with ApiClient(Configuration()) as client:
            kube = Answering(client)
            operator = Operator(Cache(), Turns(), kube, RULES, lambda: NOON)
            operator.cache.see_object(an_object(1))
            operator.turns.add(KEY)
            made = 0
            while len(operator.turns):
                key = await operator.turns.take()
                await operator.reconcile(key)
                operator.turns.done(key)
                made += 1
            assert len(kube.written) == made - 1
            return made

    assert asyncio.run(asyncio.wait_for(passes(), 30)) >= 2


@pytest.mark.parametrize(("phase", "written"), [("Complete", 0), ("Failed", 1)])
def test_a_job_that_is_settled_has_no_pass(phase: str, written: int) -> None:
    """One would have added the conditions that this status lacks."""

    async def writes() -> int:
        async with ApiClient(Configuration()) as client:
            kube = Answering(client)
            operator = Operator(Cache(), Turns(), kube, RULES, lambda: NOON)
            operator.cache.see_object(an_object(1, phase=phase, observedGeneration=1))
            await operator.reconcile(KEY)
            return len(kube.written)

    assert asyncio.run(writes()) == written
