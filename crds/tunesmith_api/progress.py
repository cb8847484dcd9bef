"""What a stage says of its progress: Kubeflow's trainer-status payload, read (contract 11)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

# A payload holds at most 256 metrics (Kubeflow Trainer's TrainJobStatus); this is ten times what that takes.
BODY_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """One report: `percent` 0 to 100, seconds left as the stage estimates them, metrics by name."""

    stage: str
    percent: int
    seconds_left: float | None
    metrics: Mapping[str, str]


def parse_report(stage: str, body: bytes) -> ProgressReport | None:
    """A payload of the protocol as a report, None if it is not one."""
    try:
        status = json.loads(body)["trainerStatus"]
        metrics = {str(item["name"]): str(item["value"]) for item in status.get("metrics") or ()}
        left = status.get("estimatedRemainingSeconds")
        return ProgressReport(
            stage=stage,
            percent=min(max(int(status["progressPercentage"]), 0), 100),
            seconds_left=None if left is None else float(left),
            metrics=metrics,
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
