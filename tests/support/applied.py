"""A job of the tests in a real API server: what its status says, and its pods played to their end."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.builders import a_spec
from support.control_plane import ControlPlane
from support.kubelet import Kubelet
from support.small_cluster import ROWS
from support.waiting import wait_until
from tunesmith_api.spec import JobSpec

_SECONDS = 120.0
SPEC = a_spec(datasets=ROWS, quantizations=["Q8_0"])


@dataclass
class Applied:
    """A job in a namespace of its own, with an operator that watches it."""

    plane: ControlPlane
    kubelet: Kubelet
    path: str

    @property
    def object(self) -> dict[str, Any]:
        return self.plane.get(self.path)

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.object.get("status") or {})

    def edit(self, **spec: Any) -> None:
        self.plane.patch(self.path, {"spec": spec})

    def until(self, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The status once this holds."""
        found: dict[str, Any] = {}

        def there() -> bool:
            found.clear()
            found.update(self.status)
            return bool(found) and holds(found)

        try:
            wait_until(there, what, _SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}; the status is {json.dumps(found, indent=1)}") from None
        return found

    def is_in(self, phase: str) -> dict[str, Any]:
        return self.until(lambda status: status.get("phase") == phase, f"the phase {phase}")

    def completed(self, spec: JobSpec = SPEC) -> dict[str, Any]:
        """The status once every pod has ended well and the job is complete."""

        def over(status: dict[str, Any]) -> bool:
            self.kubelet.carry_on("bot", spec)
            names = [f"quantize-{type_.value}" for type_ in spec.quantizations]
            return status.get("phase") == "Complete" and names == _quantized(status)

        return self.until(over, "the job to be complete")

    def done(self, stage: str) -> None:
        """A stage's pod runs and ends well."""
        pod = self.kubelet.pod_of("bot", stage)
        self.kubelet.begin(pod)
        self.kubelet.end_well(pod, SPEC)

    def jobs(self) -> list[dict[str, Any]]:
        return list(self.plane.get(f"/apis/batch/v1/namespaces/{self.kubelet.namespace}/jobs")["items"])


def _quantized(status: dict[str, Any]) -> list[str]:
    return [each["name"] for each in status["stages"] if each["name"].startswith("quantize-")]
