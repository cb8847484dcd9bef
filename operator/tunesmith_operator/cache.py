"""What the operator has last seen of all jobs, their Jobs and pods: excerpts, and nothing that the API server has not.

An event older than what is there changes nothing. The answer to an own write goes in as an event does, so that the next
pass does not act on what was before it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tunesmith_api.spec import JobSpec
from tunesmith_api.status import JobStatus
from tunesmith_operator.excerpts import (
    Excerpt,
    excerpt_of,
    job_uid_of,
    owner_name_of,
    pod_of,
    stage_job_of,
    version_of,
)
from tunesmith_operator.world import Heard, StageJob, StagePod, World

Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class SeenPod:
    """A pod as it was at a version, the UID of its Job, and whose turn it is when it changes."""

    version: int
    job: str
    owner: Key
    pod: StagePod


@dataclass(frozen=True, slots=True)
class SeenJob:
    """A Job as it was at a version, and whose turn it is when it changes."""

    version: int
    owner: Key
    job: StageJob


@dataclass(slots=True)
class Cache:
    """Everything by namespace and name; Jobs and pods also by the name of the object that they belong to.

    `disruptions` counts the pods that were taken away while they were watched, by Kubernetes' reason.
    """

    objects: dict[Key, Excerpt] = field(default_factory=dict)
    jobs: dict[Key, SeenJob] = field(default_factory=dict)
    pods: dict[Key, SeenPod] = field(default_factory=dict)
    heard: dict[Key, Heard] = field(default_factory=dict)
    disruptions: Counter[str] = field(default_factory=Counter)
    _jobs_of: defaultdict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    _pods_of: defaultdict[str, set[Key]] = field(default_factory=lambda: defaultdict(set))

    def see_object(self, body: Mapping[str, Any], *, gone: bool = False) -> Key | None:
        """A FineTuneJob as it is, or as it was when it went; whose turn it is then, None if nothing is new."""
        seen = excerpt_of(body)
        key = (seen.namespace, seen.name)
        known = self.objects.get(key)
        if gone:
            if known is not None and known.uid == seen.uid:
                del self.objects[key]
            return key
        if known is not None and known.version >= seen.version:
            return None
        self.objects[key] = seen
        return key

    def see_job(self, body: Mapping[str, Any], *, gone: bool = False) -> Key | None:
        """A Job of a stage; whose turn it is then."""
        key, owner = _key(body), (_key(body)[0], owner_name_of(body))
        known = self.jobs.get(key)
        version = version_of(body)
        if gone:
            if known is not None and known.job.uid == body["metadata"]["uid"]:
                self.lose_job(key)
            return owner
        if known is not None and known.version >= version:
            return None
        self.jobs[key] = SeenJob(version, owner, stage_job_of(body))
        self._jobs_of[owner].add(key[1])
        return owner

    def see_pod(self, body: Mapping[str, Any], *, gone: bool = False) -> Key | None:
        """A pod of a stage's Job; whose turn it is then."""
        key, job = _key(body), job_uid_of(body)
        owner = (key[0], owner_name_of(body))
        known = self.pods.get(key)
        version = version_of(body)
        if gone:
            if known is not None and known.pod.uid == body["metadata"]["uid"]:
                self.lose_pod(key)
            return owner
        if known is not None and known.version >= version:
            return None
        pod = pod_of(body)
        if known is not None and pod.disrupted and not known.pod.disrupted:
            self.disruptions[pod.disrupted] += 1
        self.pods[key] = SeenPod(version, job, owner, pod)
        self._pods_of[job].add(key)
        return owner

    def see_report(self, pod: Key, uid: str, heard: Heard) -> Key | None:
        """What a pod says of its progress; whose turn it is then, None if no pod of a running stage is this one."""
        known = self.pods.get(pod)
        if known is None or known.pod.uid != uid or known.pod.ended is not None:
            return None
        self.heard[pod] = heard
        return known.owner

    def jobs_of(self, key: Key, uid: str) -> list[StageJob]:
        """The Jobs of this object."""
        jobs = (self._with_pods((key[0], name)) for name in self._jobs_of.get(key, ()))
        return [job for job in jobs if job.owner == uid]

    def live_jobs(self) -> Iterator[StageJob]:
        """All Jobs that have not ended and are not about to go, with their pods."""
        for key, seen in self.jobs.items():
            if not seen.job.ended and not seen.job.deleting:
                yield self._with_pods(key)

    def has_jobs(self, key: Key) -> bool:
        """Whether a job has been begun."""
        return bool(self._jobs_of.get(key))

    def lose_object(self, key: Key) -> None:
        """The API server does not have it any more."""
        self.objects.pop(key, None)

    def lose_job(self, key: Key) -> Key:
        """The API server does not have it any more; whose turn it is then."""
        owner = self.jobs.pop(key).owner
        self._jobs_of[owner].discard(key[1])
        return owner

    def lose_pod(self, key: Key) -> Key:
        """The API server does not have it any more; whose turn it is then."""
        seen = self.pods.pop(key)
        self.heard.pop(key, None)
        self._pods_of[seen.job].discard(key)
        return seen.owner

    def world(self, key: Key, now: datetime) -> World:
        """One job and what belongs to it. KeyError if it is gone, ValidationError where it cannot be read."""
        seen = self.objects[key]
        return World(
            name=seen.name,
            namespace=seen.namespace,
            uid=seen.uid,
            generation=seen.generation,
            now=now,
            spec=JobSpec.model_validate_json(seen.spec),
            status=JobStatus.model_validate_json(seen.status),
            retry=seen.retry,
            deleting=seen.deleting,
            jobs={name: self._with_pods((key[0], name)) for name in self._jobs_of[key]},
        )

    def _with_pods(self, key: Key) -> StageJob:
        job = self.jobs[key].job
        pods = tuple(replace(self.pods[pod].pod, heard=self.heard.get(pod)) for pod in sorted(self._pods_of[job.uid]))
        return replace(job, pods=pods)


def _key(body: Mapping[str, Any]) -> Key:
    return body["metadata"]["namespace"], body["metadata"]["name"]
