"""What the operator sees of one job: the object itself, its Jobs and their pods, as excerpts of what it decides from.

Excerpts, since a cluster's operator keeps thousands of them: a field that no decision reads is not here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from tunesmith_api.progress import ProgressReport
from tunesmith_api.spec import JobSpec
from tunesmith_api.status import JobStatus, RecordedKeys

# The Job controller's reason (batch/v1, JobReasonDeadlineExceeded): it has deleted the pod itself.
DEADLINE_EXCEEDED = "DeadlineExceeded"
# A watch that is silently dead is noticed after 90 seconds (watching.py).
_BEHIND = timedelta(minutes=2)


class JobState(StrEnum):
    """Where a batch/v1 Job stands; only `COMPLETE` and `FAILED` say that none of its pods is left running."""

    PENDING = "Pending"
    RUNNING = "Running"
    COMPLETE = "Complete"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a pod's container ended: exit code, the kubelet's reason (OOMKilled, Error, ...), termination message."""

    exit_code: int
    reason: str
    message: str
    started: datetime | None = None
    finished: datetime | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What a pod has said last of its progress, and when."""

    report: ProgressReport
    time: datetime


@dataclass(frozen=True, slots=True)
class Warned:
    """What an event says of a Job or pod, and since when it is known that this is so."""

    since: datetime
    text: str


@dataclass(frozen=True, slots=True)
class StagePod:
    """A pod of a stage's Job.

    `waiting` is the container's reason and message while it does not run (ImagePullBackOff, ...), `unschedulable` the
    scheduler's words, `disrupted` the reason of its DisruptionTarget condition (PreemptionByScheduler,
    EvictionByEvictionAPI, TerminationByKubelet, ...), `scheduled` when it got its node. `refusal` is the kubelet's
    reason and message for the pod as a whole (Evicted, OutOfmemory, ...), `gone_by` when its grace period ends where it
    is being deleted.
    """

    name: str
    uid: str
    created: datetime
    waiting: tuple[str, str] | None = None
    scheduled: datetime | None = None
    unschedulable: str = ""
    disrupted: str = ""
    ended: Ended | None = None
    started: datetime | None = None
    heard: Heard | None = None
    refusal: tuple[str, str] | None = None
    gone_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class StageJob:
    """A batch/v1 Job that a stage runs in.

    `owner` is the UID in its controller reference; `template` the hash of the template that it was made from, `given`
    digests of what its failures may be for want of; `limit` its job's deadline when it was made; `turn` which beginning
    of the stage it is (`StageStatus.turn`); `keys` what its stage was asked for; `reason` and `message` are those of
    its Failed condition; `version` is its resourceVersion.
    """

    name: str
    uid: str
    owner: str
    stage: str
    template: str
    turn: int
    keys: RecordedKeys | None
    created: datetime
    state: JobState = JobState.PENDING
    suspended: bool = False
    deleting: bool = False
    given: str = ""
    limit: str = ""
    reason: str = ""
    message: str = ""
    started: datetime | None = None
    finished: datetime | None = None
    version: int = 0
    pods: tuple[StagePod, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether no pod of it has ever run."""
        return self.state is JobState.PENDING and all(pod.started is None for pod in self.pods)

    @property
    def newest_pod(self) -> StagePod | None:
        """The one that was made last: what an older one has said has been tried again."""
        return max(self.pods, key=lambda pod: pod.created, default=None)

    @property
    def caught_up(self) -> datetime | None:
        """When its pods will be taken for as they were seen last, though it has ended and they have not.

        Jobs and pods are told by watches of their own. None where there is nothing to wait for: it goes on, its newest
        pod has ended, or was taken from it.
        """
        pod = self.newest_pod
        told = pod is not None and (pod.ended or pod.disrupted or pod.refusal or pod.gone_by)
        if not self.ended or told or self.reason == DEADLINE_EXCEEDED or self.finished is None:
            return None
        return self.finished + _BEHIND

    def behind(self, now: datetime) -> bool:
        """Whether what its newest pod has said last may still come."""
        return self.caught_up is not None and now < self.caught_up

    @property
    def idle(self) -> bool:
        """Whether none of its pods has begun to work, though nothing but the cluster keeps it from that."""
        return self.state is JobState.PENDING and not self.suspended and all(pod.started is None for pod in self.pods)

    @property
    def ended(self) -> bool:
        """Whether it is complete or has failed, with all its pods gone or ended."""
        return self.state in (JobState.COMPLETE, JobState.FAILED)


@dataclass(frozen=True, slots=True)
class World:
    """One job and what belongs to it, as last seen; `jobs` by name.

    `refused` is what the API server has just said, by the stage's name, to a Job that was to be made: whether it can
    ever be taken, and why not. `warnings` is what Kubernetes says of a Job or pod that does not begin, by UID.
    """

    name: str
    namespace: str
    uid: str
    generation: int
    now: datetime
    spec: JobSpec
    status: JobStatus
    retry: str = ""
    deleting: bool = False
    jobs: Mapping[str, StageJob] = field(default_factory=dict)
    refused: Mapping[str, tuple[bool, str]] = field(default_factory=dict)
    warnings: Mapping[str, Warned] = field(default_factory=dict)

    def own_job(self, name: str) -> StageJob | None:
        """This object's Job of that name; one of an earlier object of the same name is none."""
        job = self.jobs.get(name)
        return job if job is not None and job.owner == self.uid else None

    @property
    def own_jobs(self) -> tuple[StageJob, ...]:
        """All Jobs of this object."""
        return tuple(job for job in self.jobs.values() if job.owner == self.uid)
