"""What a Job that does not run yet waits for, in a sentence (design, contract 10)."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from tunesmith_api.failures import FailureClass
from tunesmith_operator.last_words import result_in
from tunesmith_operator.tries import FINAL, TRIED_AGAIN, killed_for_memory
from tunesmith_operator.world import Ended, StageJob, StagePod, Warned

# What every stage waits for, and nobody has to know: one sentence before its pod is there and after, since between them
# would be a write of the status for nobody.
ORDINARY = "its pod is being started"
# The kubelet's reasons while nothing is wrong yet: an image that is pulled, a volume that is mounted.
STARTING_REASONS = ("ContainerCreating", "PodInitializing")
# How long after its grace period a pod may take to go before its node is asked about: a kubelet that lives kills at
# once and tells the API server; its status manager looks again every ten seconds (pkg/kubelet/status, syncPeriod).
_OVERDUE = timedelta(minutes=1)
# How much of a failure's own words has room in a line about something that is tried again, in characters.
_SAID = 200


def waiting_for(job: StageJob, now: datetime, warnings: Mapping[str, Warned]) -> str:
    """Why it does not run yet, in a sentence; empty if it runs."""
    if job.suspended:
        return "queued: its Job is suspended, by Kueue or by hand"
    pod = job.newest_pod
    if pod is None:
        warning = warnings.get(job.uid)
        return f"no pod can be made for it: {warning.text}" if warning else job.message or ORDINARY
    if pod.started is not None or pod.gone_by is not None:
        return _between_pods(job, pod, now)
    if pod.unschedulable:
        return f"no node for its pod: {pod.unschedulable}"
    if pod.waiting is not None and pod.waiting[0] not in STARTING_REASONS:
        return f"{pod.waiting[0]}: {pod.waiting[1]}".rstrip(": ")
    warning = warnings.get(pod.uid)
    return f"its pod does not start: {warning.text}" if warning else ORDINARY


def overdue(pod: StagePod) -> datetime | None:
    """When a pod that is to go, and has not said that it ended, is taken for one whose node is lost."""
    return None if pod.gone_by is None or pod.ended is not None else pod.gone_by + _OVERDUE


def _between_pods(job: StageJob, pod: StagePod, now: datetime) -> str:
    """Of a pod that has begun or is to go: that another one has to follow, else nothing."""
    lost = overdue(pod)
    if lost is not None and now >= lost:
        return (
            f"its pod {pod.name} was to be gone by {pod.gone_by:%H:%M:%S} UTC and its node does not say so: if the "
            "node is lost, delete the Node or give it the taint node.kubernetes.io/out-of-service"
        )
    goes_on = pod.ended is None or (pod.ended.exit_code not in (0, *FINAL) and not job.ended)
    if goes_on and (pod.disrupted or pod.gone_by is not None):
        return f"its pod is taken away ({pod.disrupted or 'deleted'}), and another will follow"
    if pod.ended is not None and goes_on:
        return f"its pod has failed ({_why(pod.ended)}) and is tried again, spec.backoffLimit times in all"
    return ""


def _why(ended: Ended) -> str:
    """What the stage has said of itself; of one that the kernel has ended or that crashed, the class or the code."""
    if killed_for_memory(ended):
        return FailureClass.OUT_OF_MEMORY.value
    named = TRIED_AGAIN.get(ended.exit_code, f"exit code {ended.exit_code}")
    told = result_in(ended.message)
    return named if told is None or told.failure is None else f"{named}: {told.failure.message[:_SAID]}"
