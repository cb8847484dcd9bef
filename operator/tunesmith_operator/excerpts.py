"""From what the API server sends, objects as JSON, to the few fields of each that decisions read."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tunesmith_api.names import CONTAINER, JOB_LABEL, RETRY_ANNOTATION, STAGE_LABEL
from tunesmith_api.stages import stage_of
from tunesmith_api.status import Phase, RecordedKeys, StageState
from tunesmith_operator.names import (
    GIVEN_ANNOTATION,
    KEYS_ANNOTATION,
    LIMIT_ANNOTATION,
    TEMPLATE_ANNOTATION,
    TURN_ANNOTATION,
)
from tunesmith_operator.world import Ended, JobState, StageJob, StagePod

_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A FineTuneJob: spec and status as the JSON that came, read only when its turn comes.

    `phase` is the status's, `stage` the kind of stage that it has come to; empty once the job is finished.
    """

    name: str
    namespace: str
    uid: str
    version: int
    generation: int
    retry: str
    deleting: bool
    spec: bytes
    status: bytes
    phase: str
    stage: str


def excerpt_of(body: Mapping[str, Any]) -> Excerpt:
    """The excerpt of a FineTuneJob."""
    meta, status = body["metadata"], body.get("status") or {}
    return Excerpt(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        version=version_of(body),
        generation=int(meta.get("generation", 1)),
        retry=(meta.get("annotations") or {}).get(RETRY_ANNOTATION, ""),
        deleting="deletionTimestamp" in meta,
        spec=json.dumps(body.get("spec") or {}).encode(),
        status=json.dumps(status).encode(),
        # One of each word for all of a cluster's thousands.
        phase=sys.intern(str(status.get("phase") or Phase.PENDING.value)),
        stage=_come_to(status),
    )


def _come_to(status: Mapping[str, Any]) -> str:
    stages = () if status.get("finished") else status.get("stages") or ()
    states = {str(each["name"]): each.get("state") for each in stages}
    running = [name for name, state in states.items() if state == StageState.RUNNING]
    waiting = [name for name, state in states.items() if state != StageState.DONE]
    return stage_of(next(iter(running or waiting), "")) or ""


def version_of(body: Mapping[str, Any]) -> int:
    """The resourceVersion: of two of one object the larger is the newer (Kubernetes 1.35, KEP-5504)."""
    return int(body["metadata"]["resourceVersion"])


def owner_name_of(body: Mapping[str, Any]) -> str:
    """The name of the FineTuneJob that a Job or a pod belongs to, by its label."""
    return str((body["metadata"].get("labels") or {}).get(JOB_LABEL, ""))


def stage_job_of(body: Mapping[str, Any]) -> StageJob:
    """The excerpt of a Job, without its pods."""
    meta, status = body["metadata"], body.get("status") or {}
    notes = meta.get("annotations") or {}
    ended = {each["type"]: each for each in status.get("conditions") or () if each.get("status") == "True"}
    failed = ended.get("Failed") or {}
    return StageJob(
        name=meta["name"],
        uid=meta["uid"],
        owner=_controller(meta.get("ownerReferences") or ()),
        stage=(meta.get("labels") or {}).get(STAGE_LABEL, ""),
        template=notes.get(TEMPLATE_ANNOTATION, ""),
        given=notes.get(GIVEN_ANNOTATION, ""),
        limit=notes.get(LIMIT_ANNOTATION, ""),
        turn=int(notes.get(TURN_ANNOTATION, "0")),
        keys=_keys(notes.get(KEYS_ANNOTATION)),
        created=_time(meta.get("creationTimestamp")) or _EPOCH,
        state=_state(ended, status),
        suspended=bool((body.get("spec") or {}).get("suspend")),
        deleting="deletionTimestamp" in meta,
        reason=failed.get("reason", ""),
        message=failed.get("message", ""),
        started=_time(status.get("startTime")),
        finished=_time(status.get("completionTime") or failed.get("lastTransitionTime")),
        version=version_of(body),
    )


def pod_of(body: Mapping[str, Any]) -> StagePod:
    """The excerpt of a pod."""
    meta, status = body["metadata"], body.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    scheduled, disrupted = conditions.get("PodScheduled") or {}, conditions.get("DisruptionTarget") or {}
    state = _container_state(status.get("containerStatuses") or ())
    waiting, running, ended = state.get("waiting"), state.get("running"), state.get("terminated")
    return StagePod(
        name=meta["name"],
        uid=meta["uid"],
        created=_time(meta.get("creationTimestamp")) or _EPOCH,
        waiting=(waiting.get("reason", ""), waiting.get("message", "")) if waiting else None,
        scheduled=_time(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None,
        unschedulable=scheduled.get("message", "") if scheduled.get("status") == "False" else "",
        disrupted=disrupted.get("reason", "") if disrupted.get("status") == "True" else "",
        ended=None if not ended else _ended(ended),
        started=_time((running or ended or {}).get("startedAt")),
        refusal=(status["reason"], status.get("message", "")) if status.get("reason") else None,
        gone_by=_time(meta.get("deletionTimestamp")),
    )


def job_uid_of(pod: Mapping[str, Any]) -> str:
    """The UID of the Job that a pod belongs to."""
    return _controller(pod["metadata"].get("ownerReferences") or ())


def _controller(references: Sequence[Mapping[str, Any]]) -> str:
    return next((str(each["uid"]) for each in references if each.get("controller")), "")


def _state(ended: Mapping[str, Any], status: Mapping[str, Any]) -> JobState:
    """FailureTarget and SuccessCriteriaMet come before the pods are gone, and do not count."""
    if "Complete" in ended:
        return JobState.COMPLETE
    if "Failed" in ended:
        return JobState.FAILED
    return JobState.RUNNING if status.get("ready") or status.get("failed") else JobState.PENDING


def _container_state(statuses: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((each.get("state") or {} for each in statuses if each.get("name") == CONTAINER), {})


def _ended(state: Mapping[str, Any]) -> Ended:
    return Ended(
        exit_code=int(state.get("exitCode", -1)),
        reason=state.get("reason", ""),
        message=state.get("message", ""),
        started=_time(state.get("startedAt")),
        finished=_time(state.get("finishedAt")),
    )


def _keys(text: str | None) -> RecordedKeys | None:
    return None if not text else RecordedKeys.model_validate_json(text)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
