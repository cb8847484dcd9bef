"""The few events of a job: what a person wants to know who looks at it, out of two of its statuses."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from tunesmith_api.spec import API_VERSION, KIND
from tunesmith_api.stages import JobReference
from tunesmith_api.status import JobStatus, Phase, StageState
from tunesmith_operator.names import CONTROLLER
from tunesmith_operator.waiting import ORDINARY

# The API server takes 1,024 bytes of a note (k8s.io/kubernetes, pkg/apis/core/validation, NoteLengthLimit).
_NOTE_BYTES = 1024


class NoticeType(StrEnum):
    """Whether somebody should look."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Notice:
    """What has happened: in one CamelCase word, and in a sentence."""

    type: NoticeType
    reason: str
    note: str


def notices(before: JobStatus, after: JobStatus) -> tuple[Notice, ...]:
    """What the second status says that the first did not."""
    told = [*_of_stages(before, after), *_of_phase(before, after)]
    return tuple(Notice(each.type, each.reason, _fitting(each.note)) for each in told)


def _fitting(note: str) -> str:
    """Cut between characters; one takes up to four bytes."""
    return note.encode()[:_NOTE_BYTES].decode(errors="ignore")


def _of_phase(before: JobStatus, after: JobStatus) -> Iterator[Notice]:
    if after.phase is before.phase:
        return
    if after.phase is Phase.COMPLETE:
        passed = f", {after.summary} passed their gates" if after.summary else ""
        yield Notice(NoticeType.NORMAL, "Complete", f"{after.message}{passed}")
    if after.phase is Phase.FAILED and after.failure is not None:
        stage = "" if after.failure.stage is None else f"{after.failure.stage}: "
        note = f"{stage}{after.failure.message}. {after.failure.hint}"
        yield Notice(NoticeType.WARNING, after.failure.failure.value, note)
    if after.phase is Phase.SUSPENDED:
        safe = "" if after.checkpoint is None else f"; training will go on from step {after.checkpoint.step}"
        yield Notice(NoticeType.NORMAL, "Suspended", f"{after.message}{safe}")
    if before.phase is Phase.SUSPENDED:
        yield Notice(NoticeType.NORMAL, "Resumed", "the job goes on")


def _of_stages(before: JobStatus, after: JobStatus) -> Iterator[Notice]:
    known = {stage.name: stage for stage in before.stages}
    for stage in after.stages:
        earlier = known.get(stage.name)
        # With other files to publish it is no failure that is tried again.
        other = earlier is not None and earlier.state is StageState.DONE and stage.keys != earlier.keys
        if earlier is not None and stage.turn > earlier.turn and not other:
            yield Notice(NoticeType.NORMAL, "BegunAnew", f"{stage.name} is begun anew")
        waits = stage.state is StageState.WAITING and stage.message and stage.message != ORDINARY
        waited = earlier is not None and earlier.message and earlier.message != ORDINARY
        if waits and not waited:
            yield Notice(NoticeType.WARNING, "Waiting", f"{stage.name}: {stage.message}")


def event_of(of: JobReference, notice: Notice, now: datetime) -> dict[str, Any]:
    """The event about a FineTuneJob (k8s.io/api/events/v1)."""
    told = json.dumps([of.uid, notice.reason, notice.note, now.isoformat()])
    # As Kubernetes' own recorders name them: by the object, and something that is another each time.
    name = f"{of.name}.{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    job = {"apiVersion": API_VERSION, "kind": KIND, **of.to_json_dict()}
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": of.namespace},
        "eventTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": CONTROLLER,
        "reportingInstance": CONTROLLER,
        "action": notice.reason,
        "reason": notice.reason,
        "type": notice.type.value,
        "note": notice.note,
        "regarding": job,
    }
