"""A job from create to Complete, by a real API server and Job controller; pods end as the test says."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.api_proxy import Cut, proxied
from support.applied import SPEC, Applied
from support.control_plane import ControlPlane
from support.kubelet import Kubelet
from support.operator_account import operator_account
from support.operator_process import applied, operator, phase_of
from support.waiting import wait_until
from tunesmith_api.failures import FailureClass

SECONDS = 120.0
# So often is all looked through where that is waited for.
LOOK_EVERY = 0.3
# Of the operator, events among them: the Job, that it waits, runs and is done. Progress is counted apart.
WRITES_PER_STAGE = 4
# Twice the writes of a job of seven stages, each of which kills the operator twice.
MANY = 120


def events_of(plane: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    """What the operator has told of the jobs."""
    events = plane.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")["items"]
    return [event for event in events if event["regarding"]["kind"] == "FineTuneJob"]


@pytest.mark.parametrize("everywhere", [True, False], ids=["ClusterRole", "Role"])
def test_a_job_runs_to_its_end(plane: ControlPlane, namespace: str, tmp_path: Path, *, everywhere: bool) -> None:
    """Under Pod Security 'restricted', with no right but the chart's; each stage once, and a status that says so."""
    job = Applied(plane, Kubelet(plane, namespace), applied(plane, namespace, SPEC))
    account = operator_account(plane, tmp_path) if everywhere else operator_account(plane, tmp_path, namespace)
    with operator(account, tmp_path, None if everywhere else namespace):
        job.completed()
        # It is told after the status has it.
        wait_until(lambda: bool(events_of(plane, namespace)), "the job's end to be told", SECONDS)

    found, told = job.object, events_of(plane, namespace)
    assert {stage["state"] for stage in found["status"]["stages"]} == {"Done"}
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    made = job.jobs()
    assert len(made) == len(found["status"]["stages"])
    assert [(event["type"], event["reason"]) for event in told] == [("Normal", "Complete")]
    assert told[0]["regarding"]["uid"] == found["metadata"]["uid"]
    assert len(plane.writes_of_operator(namespace)) <= WRITES_PER_STAGE * len(made)
    assert "forbidden" not in (tmp_path / "operator.log").read_text()


def test_a_finished_job_costs_no_write(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """Nor is one tried: while it is looked through, annotated, loses a Job, and for an operator that is new."""
    job = Applied(plane, Kubelet(plane, namespace), applied(plane, namespace, SPEC))
    account = operator_account(plane, tmp_path, namespace)

    def looked_through() -> None:
        # One may be under way, the next sees what is now, and the one after that shows that it is over.
        looks = plane.looks_of_operator(namespace) + 3
        wait_until(lambda: plane.looks_of_operator(namespace) >= looks, "all to be looked through", SECONDS)

    def told(name: str) -> None:
        begin = f"create events {name}."
        writes = partial(plane.writes_of_operator, namespace)
        wait_until(lambda: any(each.startswith(begin) for each in writes()), f"the end of {name} to be told", SECONDS)

    with operator(account, tmp_path, namespace, look_every=LOOK_EVERY):
        job.completed()
        told("bot")
        ended = len(plane.writes_of_operator(namespace))
        plane.patch(job.path, {"metadata": {"annotations": {"team": "a"}}})
        looked_through()
    with operator(account, tmp_path, namespace, look_every=LOOK_EVERY):
        gone = job.jobs()[0]["metadata"]["name"]
        plane.delete(f"/apis/batch/v1/namespaces/{namespace}/jobs/{gone}", propagationPolicy="Background")
        plane.patch(job.path, {"metadata": {"annotations": {"team": "b"}}})
        applied(plane, namespace, SPEC, "other")
        job.kubelet.fail(job.kubelet.pod_of("other", "prepare"), FailureClass.SPEC_INVALID)
        told("other")
        looked_through()

    since = plane.writes_of_operator(namespace)[ended:]
    assert [write for write in since if not write.split(" ")[2].startswith("other")] == []


@pytest.mark.slow
def test_an_operator_that_dies_at_every_write_ends_where_another_does(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Killed once before each write and once after it, unanswered: the same end, and no Job was ever made twice."""
    kubelet = Kubelet(plane, namespace)
    path = applied(plane, namespace, SPEC)
    killed = 0
    with proxied(plane, tmp_path) as proxy:
        # The write that was cut off before is the first one of the next operator, which is cut off after it.
        proxy.cut = lambda number: (Cut.BEFORE, Cut.AFTER)[number % 2]
        while phase_of(plane, path) != "Complete":
            assert killed < MANY, f"it comes to no end: {Counter(plane.jobs_made(namespace))}"
            with operator(proxy.kubeconfig, tmp_path, namespace) as proxy.victim:

                def over() -> bool:
                    kubelet.carry_on("bot", SPEC)
                    return proxy.victim.poll() is not None or phase_of(plane, path) == "Complete"

                wait_until(over, "the operator to be killed, or the job to be complete", SECONDS)
            killed += 1

    found = plane.get(path)["status"]
    assert {stage["state"] for stage in found["stages"]} == {"Done"}
    made = Counter(plane.jobs_made(namespace))
    assert set(made.values()) == {1}, made
    assert len(made) == len(found["stages"])
    assert killed > 2 * len(made)
