"""A FineTuneJob in the cluster as a user has it: applied, edited, watched by kubectl."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from support.real_cluster.asking import job_of, kubectl
from support.real_cluster.layout import Layout
from support.runs import manifest
from support.waiting import wait_until

# A stage of the smallest model takes a minute where cores are slow and busy; this bounds what hangs.
SECONDS = 1500.0
# Long enough to be stopped three times in the middle: in the ten seconds between two looks at it fast cores make 80.
STEPS = 600
LONG = {"maxSteps": STEPS, "effectiveBatchSize": 8, "maxSequenceLength": 128, "saveEvery": 10, "evalEvery": STEPS}
# A model of two layers passes no gate, and is published all the same.
GATES = {"minAnswersClean": 0, "onFailure": "Publish"}


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

    def another(self, name: str, **changes: Any) -> "RealJob":
        """A job of the same sources, in the same namespace, applied."""
        return self.named(name, **changes).apply()

    def named(self, name: str, **changes: Any) -> "RealJob":
        """A job of the same sources, in the same namespace."""
        made = manifest(**{key: self.manifest["spec"][key] for key in ("model", "datasets")}, gates=GATES)
        made["spec"] |= changes
        made["metadata"]["name"] = name
        return RealJob(self.cluster, self.namespace, made)

    def edit(self, **spec: Any) -> None:
        """`kubectl patch`."""
        self.kubectl("patch", f"ftj/{self.name}", "--type=merge", "--patch", json.dumps({"spec": spec}))

    def status(self) -> dict[str, Any]:
        """The status as it is."""
        return dict(self._object().get("status") or {})

    def _object(self) -> dict[str, Any]:
        return job_of(self.cluster, self.namespace, self.name)

    def until(self, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The status once this holds; an AssertionError with the last one if it never does."""
        seen: dict[str, Any] = {}

        def looked() -> bool:
            seen.clear()
            seen.update(self.status())
            # Before an operator has seen it nothing else is there.
            return seen.get("observedGeneration", -1) > 0 and holds(seen)

        try:
            wait_until(looked, what, SECONDS, every=0.5)
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
        """The status once the training has reached a step; an AssertionError if the job has ended before."""

        def there(status: dict[str, Any]) -> bool:
            progress = status.get("progress") or {}
            assert status.get("phase") not in ("Complete", "Failed"), json.dumps(status)
            return progress.get("stage") == "train" and (progress.get("step") or 0) >= step

        return self.until(there, f"step {step} of the training")

    def retried(self) -> dict[str, Any]:
        """The status once the operator has heeded a retry."""
        self.kubectl("annotate", f"ftj/{self.name}", "tunesmith.dev/retry=1")
        return self.until(lambda status: status.get("retried") == "1", "the retry to be heeded")

    def logs(self, stage: str) -> str:
        """What the pods of a stage have said so far."""
        labels = f"--selector=tunesmith.dev/job={self.name},tunesmith.dev/stage={stage}"
        return self.kubectl("logs", labels, "--tail=-1", "--ignore-errors")

    def pods(self, stage: str, *, ended: bool = False) -> list[str]:
        """The names of a stage's pods that have not ended, or of all."""
        labels = f"--selector=tunesmith.dev/job={self.name},tunesmith.dev/stage={stage}"
        listed = json.loads(self.kubectl("get", "pods", labels, "--output=json"))["items"]
        over = () if ended else ("Succeeded", "Failed")
        return [pod["metadata"]["name"] for pod in listed if pod["status"].get("phase") not in over]


def stage_of(status: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a status says of a stage."""
    return next(dict(stage) for stage in status["stages"] if stage["name"] == name)
