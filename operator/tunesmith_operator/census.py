"""How many jobs stand where, counted over all that is seen when somebody asks."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from tunesmith_api.stages import stage_of
from tunesmith_operator.cache import Cache
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
    for job in cache.live_jobs():
        # Whoever gives a Job of theirs our label makes no series of it.
        stage, pod = stage_of(job.stage) or "", job.newest_pod
        reason = _waits_for(job, pod)
        if reason:
            counted.waiting[stage, reason] += 1
            begun = pod is None or pod.started is not None
            waited = now - ((job.started or job.created) if pod is None or begun else pod.created)
            counted.longest[stage, reason] = max(waited.total_seconds(), counted.longest.get((stage, reason), 0.0))
        elif pod is not None and pod.started is not None:
            silence = now - max(pod.started if pod.heard is None else pod.heard.time, listening)
            counted.silent[stage] = max(silence.total_seconds(), counted.silent.get(stage, 0.0))
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
