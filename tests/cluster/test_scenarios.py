"""The scenarios that the cluster in memory plays (tests/unit), by a real API server and Job controller."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.control_plane import ControlPlane
from support.kubelet import Kubelet
from support.operator_process import applied, operator
from support.scenarios import SCENARIOS, SPEC, Scenario
from support.small_cluster import withheld_text
from support.waiting import wait_until
from tunesmith_api.failures import FailureClass
from tunesmith_api.names import RETRY_ANNOTATION, STAGE_LABEL
from tunesmith_api.spec import JobSpec
from tunesmith_api.status import JobStatus

SECONDS = 120.0
RESTING = ("Complete", "Failed", "Suspended")


class Real:
    """The job `bot` in a namespace of its own."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.kubelet = Kubelet(plane, namespace)
        self.path = applied(plane, namespace, SPEC)

    def until(self, stage: str) -> None:
        def works() -> bool:
            self.kubelet.carry_on("bot", self._spec(), but=stage)
            return any(pod["status"].get("phase") == "Running" for pod in self._pods(stage))

        wait_until(works, f"{stage} to work", SECONDS)

    def fail(self, stage: str, failure: FailureClass) -> None:
        self.kubelet.fail(self._pod(stage), failure)

    def kill(self, stage: str) -> None:
        self.kubelet.end(self._pod(stage), 137, "", "OOMKilled")

    def evict(self, stage: str) -> None:
        gone = self._pod(stage)["metadata"]["name"]
        self.kubelet.drain(self._pod(stage))
        self._wait(lambda: self._pods(stage) and self._pod(stage)["metadata"]["name"] != gone, "another pod")

    def lose(self, stage: str) -> None:
        self.kubelet.end(self._pod(stage), 0, "")

    def withhold(self, stage: str) -> None:
        self.kubelet.end(self._pod(stage), 0, withheld_text())

    def vanish(self, stage: str) -> None:
        [job] = [each for each in self._jobs() if each["metadata"]["labels"][STAGE_LABEL] == stage]
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        self.plane.delete(f"{self._jobs_path}/{name}", propagationPolicy="Background")
        self._wait(lambda: uid not in [each["metadata"]["uid"] for each in self._jobs()], "the Job to be gone")

    def edit(self, **changes: Any) -> None:
        self.plane.patch(self.path, {"spec": changes})

    def retry(self, value: str) -> None:
        self.plane.patch(self.path, {"metadata": {"annotations": {RETRY_ANNOTATION: value}}})

    def rest(self) -> JobStatus:
        def resting() -> bool:
            # Suspended, what runs goes on until it is asked to go.
            if not self._spec().suspend:
                self.kubelet.carry_on("bot", self._spec())
            found = self.plane.get(self.path)
            status = JobStatus.model_validate(found.get("status") or {})
            seen = status.observed_generation == found["metadata"]["generation"]
            heeded = status.retried == (found["metadata"].get("annotations") or {}).get(RETRY_ANNOTATION, "")
            return seen and heeded and status.phase in RESTING and self.kubelet.pods("bot") == []

        self._wait(resting, "the job to come to rest")
        return JobStatus.model_validate(self.plane.get(self.path)["status"])

    def made(self) -> list[str]:
        return self.plane.stages_made(self.kubelet.namespace)

    @property
    def _jobs_path(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.kubelet.namespace}/jobs"

    def _jobs(self) -> list[dict[str, Any]]:
        return list(self.plane.get(self._jobs_path)["items"])

    def _pods(self, stage: str) -> list[dict[str, Any]]:
        return [pod for pod in self.kubelet.pods("bot") if pod["metadata"]["labels"][STAGE_LABEL] == stage]

    def _pod(self, stage: str) -> dict[str, Any]:
        [pod] = self._pods(stage)
        return pod

    def _spec(self) -> JobSpec:
        return JobSpec.model_validate(self.plane.get(self.path)["spec"])

    def _wait(self, holds: Callable[[], object], what: str) -> None:
        try:
            wait_until(lambda: bool(holds()), what, SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}; the job is {self.plane.get(self.path)}") from None


@pytest.fixture
def real(plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Real]:
    with operator(plane.kubeconfig, tmp_path, namespace):
        yield Real(plane, namespace)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario(scenario: Scenario, real: Real) -> None:
    """It ends as it is written, whatever else a real API server does."""
    scenario.play(real)
