"""A FineTuneJob in the cluster as a user has it: applied, edited, watched by kubectl."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from support.real_cluster.layout import Layout
from support.real_cluster.lifecycle import administrator, kubectl
from support.waiting import wait_until

# A stage of the smallest model takes a minute where cores are slow and busy; this bounds what hangs.
SECONDS = 1500.0


@dataclass(frozen=True, slots=True)
class RealJob:
    """One job by name; `manifest` is what was applied first."""

    cluster: Layout
    namespace: str
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """In the job's namespace."""
        return kubectl(self.cluster, "--namespace", self.namespace, *words, given=given)

    def apply(self) -> "RealJob":
        """`kubectl apply`."""
        self.kubectl("apply", "--filename=-", given=yaml.safe_dump(dict(self.manifest)))
        return self

    def edit(self, **spec: Any) -> None:
        """`kubectl patch`."""
        self.kubectl("patch", f"ftj/{self.name}", "--type=merge", "--patch", json.dumps({"spec": spec}))

    def status(self) -> dict[str, Any]:
        """The status as it is."""
        return dict(self._object().get("status") or {})

    def _object(self) -> dict[str, Any]:
        path = f"/apis/tunesmith.dev/v1alpha1/namespaces/{self.namespace}/finetunejobs/{self.name}"
        with administrator(self.cluster) as client:
            return dict(client.get(path).raise_for_status().json())

    def until(self, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The status once this holds; an AssertionError with the last one if it never does, or if the job is over."""
        seen: dict[str, Any] = {}

        def looked() -> bool:
            seen.clear()
            seen.update(self.status())
            return bool(seen) and holds(seen)

        try:
            wait_until(looked, what, SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(seen, indent=1)[-6000:]}") from None
        return seen

    def ended(self, phase: str = "Complete") -> dict[str, Any]:
        """The status at its end, which has to be this one; the job's generation has to have been seen."""
        now = self._object()["metadata"]["generation"]

        def over(status: dict[str, Any]) -> bool:
            return status.get("observedGeneration") == now and status.get("phase") in ("Complete", "Failed")

        status = self.until(over, "the job to end")
        assert status["phase"] == phase, json.dumps(status, indent=1)[-6000:]
        return status

    def trained(self, step: int) -> dict[str, Any]:
        """The status once the training has reached a step."""

        def there(status: dict[str, Any]) -> bool:
            progress = status.get("progress") or {}
            assert status.get("phase") != "Failed", json.dumps(status.get("failure"))
            return progress.get("stage") == "train" and (progress.get("step") or 0) >= step

        return self.until(there, f"step {step} of the training")

    def pods(self, stage: str) -> list[str]:
        """The names of a stage's pods that have not ended."""
        labels = f"--selector=tunesmith.dev/job={self.name},tunesmith.dev/stage={stage}"
        listed = json.loads(self.kubectl("get", "pods", labels, "--output=json"))["items"]
        return [pod["metadata"]["name"] for pod in listed if pod["status"].get("phase") not in ("Succeeded", "Failed")]


def stage_of(status: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a status says of a stage."""
    return next(dict(stage) for stage in status["stages"] if stage["name"] == name)
