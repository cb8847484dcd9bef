"""How many jobs stand where, counted over all that is seen when somebody asks."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from tunesmith_operator.cache import Cache, SeenPod
from tunesmith_operator.history import kind_of
from tunesmith_operator.waiting import STARTING_REASONS
from tunesmith_operator.world import StageJob, StagePod


@dataclass(frozen=True, slots=True)
class Census:
    """Jobs by stage and condition, stages that wait by stage and reason, and the longest wait and silence of one.

    A finished job has no stage. Silence is in seconds since a stage's pod has said how far it is, or since it began;
    a wait since its pod was made, or its Job where there is none.
    """

    jobs: Counter[tuple[str, str]] = field(default_factory=Counter)
    waiting: Counter[tuple[str, str]] = field(default_factory=Counter)
    longest: dict[tuple[str, str], float] = field(default_factory=dict)
    silent: dict[str, float] = field(default_factory=dict)


def census(cache: Cache, now: datetime, listening: datetime) -> Census:
    """All jobs that there are; what pods have said before `listening` is not known."""
    counted = Census()
    counted.jobs.update((seen.stage, seen.phase) for seen in cache.objects.values())
    newest: dict[str, SeenPod] = {}
    for seen in cache.pods.values():
        other = newest.get(seen.job)
        if other is None or other.pod.created < seen.pod.created:
            newest[seen.job] = seen
    for seen_job in cache.jobs.values():
        job, pod = seen_job.job, newest.get(seen_job.job.uid)
        if job.ended or job.deleting:
            continue
        stage = kind_of(job.stage)
        reason = _waits_for(job, None if pod is None else pod.pod)
        if reason:
            counted.waiting[stage, reason] += 1
            unstarted = pod is not None and pod.pod.started is None
            since = pod.pod.created if pod is not None and unstarted else job.started or job.created
            waited = (now - since).total_seconds()
            counted.longest[stage, reason] = max(waited, counted.longest.get((stage, reason), 0.0))
        elif pod is not None and pod.pod.started is not None:
            heard = cache.heard.get((pod.owner[0], pod.pod.name))
            last = max(pod.pod.started if heard is None else heard.time, listening)
            silence = (now - last).total_seconds()
            counted.silent[stage] = max(silence, counted.silent.get(stage, 0.0))
    return counted


def _waits_for(job: StageJob, pod: StagePod | None) -> str:
    """In one word; empty where its pod has begun."""
    if job.suspended:
        return "Queued"
    if pod is None:
        return "NoPod"
    if pod.started is not None:
        return "" if pod.ended is None else "NoPod"
    if pod.unschedulable:
        return "Unschedulable"
    starting = pod.waiting is None or pod.waiting[0] in STARTING_REASONS
    return "Starting" if starting or pod.waiting is None else pod.waiting[0]
