"""The part of a kubelet in a control plane without nodes: a test says how a pod goes, and its status says so."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from support.control_plane import ControlPlane, Gone
from support.small_cluster import failed_text, result_text
from support.waiting import wait_until
from tunesmith_api.failures import FAILURES, FailureClass
from tunesmith_api.names import CONTAINER, JOB_LABEL, STAGE_LABEL
from tunesmith_api.spec import JobSpec

_SECONDS = 120.0


@dataclass(frozen=True)
class Kubelet:
    """Works in one namespace."""

    plane: ControlPlane
    namespace: str

    def pods(self, job: str) -> list[dict[str, Any]]:
        """The pods of a FineTuneJob that have not ended."""
        found = self.plane.get(f"/api/v1/namespaces/{self.namespace}/pods", labelSelector=f"{JOB_LABEL}={job}")["items"]
        return [pod for pod in found if pod["status"].get("phase") not in ("Succeeded", "Failed")]

    def pod_of(self, job: str, stage: str) -> dict[str, Any]:
        """The pod of a stage, once there is one."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [pod for pod in self.pods(job) if pod["metadata"]["labels"][STAGE_LABEL] == stage]
            return bool(found)

        wait_until(there, f"a pod of {job}'s {stage}", _SECONDS)
        return found[0]

    def begin(self, pod: dict[str, Any]) -> None:
        """Its container runs."""
        self._set(pod, "Running", {"running": {"startedAt": _now()}}, ready=True)

    def end_well(self, pod: dict[str, Any], spec: JobSpec, present: tuple[str, ...] = ()) -> None:
        """Its container ends with the stage's result."""
        stage = pod["metadata"]["labels"][STAGE_LABEL]
        self.end(pod, 0, result_text(stage, spec, present))

    def end(self, pod: dict[str, Any], code: int, message: str, reason: str | None = None) -> None:
        """Its container ends with this exit code and these last words."""
        ended = {"exitCode": code, "message": message, "startedAt": _now(), "finishedAt": _now()}
        ended["reason"] = reason or ("Completed" if code == 0 else "Error")
        self._set(pod, "Failed" if code else "Succeeded", {"terminated": ended}, ready=False)

    def fail(self, pod: dict[str, Any], failure: FailureClass) -> None:
        """Its container ends with a classified failure."""
        self.end(pod, FAILURES[failure].exit_code, failed_text(pod["metadata"]["labels"][STAGE_LABEL], failure))

    def wait(self, pod: dict[str, Any], reason: str, message: str) -> None:
        """Its container cannot begin."""
        self._set(pod, "Pending", {"waiting": {"reason": reason, "message": message}}, ready=False)

    def find_no_node(self, pod: dict[str, Any], words: str) -> None:
        """The scheduler's part: no node takes it."""
        scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/status"
        self.plane.patch(path, {"status": {"conditions": [scheduled | {"lastTransitionTime": _now()}]}})

    def drain(self, pod: dict[str, Any]) -> None:
        """Its node is to be empty."""
        ended = {"exitCode": 143, "reason": "Error", "startedAt": _now(), "finishedAt": _now()}
        target = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        more = [target | {"lastTransitionTime": _now()}]
        self._set(pod, "Failed", {"terminated": ended}, ready=False, conditions=more)

    def carry_on(self, job: str, spec: JobSpec, but: str = "") -> None:
        """Every pod that is there now begins, and ends well but for that stage's; one that goes meanwhile is let go."""
        for pod in self.pods(job):
            with suppress(Gone):
                self.begin(pod)
                if pod["metadata"]["labels"][STAGE_LABEL] != but:
                    self.end_well(pod, spec)

    def _set(
        self,
        pod: dict[str, Any],
        phase: str,
        state: dict[str, Any],
        *,
        ready: bool,
        conditions: Sequence[dict[str, Any]] = (),
    ) -> None:
        container = {"name": CONTAINER, "image": "x", "imageID": "", "restartCount": 0, "ready": ready, "state": state}
        every = [{"type": "Ready", "status": str(ready), "lastTransitionTime": _now()}, *conditions]
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/status"
        status = {"phase": phase, "conditions": every, "containerStatuses": [container]}
        self.plane.patch(path, {"status": status})


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
