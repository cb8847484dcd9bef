"""A job from create to Complete, by a real API server and Job controller; pods end as the test says."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.api_proxy import Cut, proxied
from support.builders import a_spec
from support.control_plane import ControlPlane
from support.kubelet import Kubelet
from support.operator_process import applied, operator, phase_of
from support.small_cluster import ROWS
from support.waiting import wait_until

SECONDS = 120.0
# Of the operator, events among them: the Job, that it waits, runs and is done. Progress is counted apart.
WRITES_PER_STAGE = 4
# Twice the writes of a job of seven stages, each of which kills the operator twice.
MANY = 120


def events_of(plane: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    """What the operator has told of the jobs."""
    events = plane.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")["items"]
    return [event for event in events if event["regarding"]["kind"] == "FineTuneJob"]


def test_a_job_runs_to_its_end(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """Under Pod Security 'restricted', each stage once, and a status that says so."""
    spec = a_spec(datasets=ROWS, quantizations=["Q8_0"])
    kubelet = Kubelet(plane, namespace)
    path = applied(plane, namespace, spec)
    with operator(plane.kubeconfig, tmp_path, namespace):

        def complete() -> bool:
            kubelet.carry_on("bot", spec)
            return phase_of(plane, path) == "Complete"

        wait_until(complete, "the job to be complete", SECONDS)
        # It is told after the status has it.
        wait_until(lambda: bool(events_of(plane, namespace)), "the job's end to be told", SECONDS)

    found, told = plane.get(path), events_of(plane, namespace)
    assert {stage["state"] for stage in found["status"]["stages"]} == {"Done"}
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    made = plane.get(f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"]
    assert len(made) == len(found["status"]["stages"])
    assert [(event["type"], event["reason"]) for event in told] == [("Normal", "Complete")]
    assert told[0]["regarding"]["uid"] == found["metadata"]["uid"]
    assert len(plane.writes_of_operator(namespace)) <= WRITES_PER_STAGE * len(made)


def test_a_finished_job_costs_no_write(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """Not when the operator begins again, nor while it goes on: another job's end shows that it has looked."""
    spec = a_spec(datasets=ROWS, quantizations=["Q8_0"])
    kubelet = Kubelet(plane, namespace)
    first = applied(plane, namespace, spec)

    def complete(name: str, path: str) -> bool:
        kubelet.carry_on(name, spec)
        return phase_of(plane, path) == "Complete"

    with operator(plane.kubeconfig, tmp_path, namespace):
        wait_until(lambda: complete("bot", first), "the job to be complete", SECONDS)
    before = plane.get(first)["metadata"]["resourceVersion"]
    with operator(plane.kubeconfig, tmp_path, namespace):
        second = applied(plane, namespace, spec, "bot2")
        wait_until(lambda: complete("bot2", second), "the second job to be complete", SECONDS)

    assert plane.get(first)["metadata"]["resourceVersion"] == before
    assert len(plane.jobs_made(namespace)) == len(set(plane.jobs_made(namespace)))


@pytest.mark.slow
def test_an_operator_that_dies_at_every_write_ends_where_another_does(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Killed once before each write and once after it, unanswered: the same end, and no Job was ever made twice."""
    spec = a_spec(datasets=ROWS, quantizations=["Q8_0"])
    kubelet = Kubelet(plane, namespace)
    path = applied(plane, namespace, spec)
    killed = 0
    with proxied(plane, tmp_path) as proxy:
        # The write that was cut off before is the first one of the next operator, which is cut off after it.
        proxy.cut = lambda number: (Cut.BEFORE, Cut.AFTER)[number % 2]
        while phase_of(plane, path) != "Complete":
            assert killed < MANY, f"it comes to no end: {Counter(plane.jobs_made(namespace))}"
            with operator(proxy.kubeconfig, tmp_path, namespace) as proxy.victim:

                def over() -> bool:
                    kubelet.carry_on("bot", spec)
                    return proxy.victim.poll() is not None or phase_of(plane, path) == "Complete"

                wait_until(over, "the operator to be killed, or the job to be complete", SECONDS)
            killed += 1

    found = plane.get(path)["status"]
    assert {stage["state"] for stage in found["stages"]} == {"Done"}
    made = Counter(plane.jobs_made(namespace))
    assert set(made.values()) == {1}, made
    assert len(made) == len(found["stages"])
    assert killed > 2 * len(made)
