"""What a Job that does not run yet waits for, and when waiting cannot help (design, contract 10)."""

from datetime import datetime, timedelta

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import Failure, Stage, failure_of
from tunesmith_operator.tries import TRIED_AGAIN
from tunesmith_operator.world import StageJob, StagePod

# The kubelet's reasons (pkg/kubelet/images and pkg/kubelet/container, events and waiting states): an image's name that
# is no name, or one that may not be pulled and is not there, does not heal; the others may.
_NEVER = ("InvalidImageName", "ErrImageNeverPull")
_PULLING = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable")
# A container that cannot be made from this template: a wrong securityContext, a missing key of a mounted object.
_CONFIGURATION = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_NO_POD, _STARTING = "waiting for its pod", "its pod is being started"
# What every stage waits for, and nobody has to know.
ORDINARY = (_NO_POD, _STARTING)


def waiting_for(job: StageJob) -> str:
    """Why it does not run yet, in a sentence; empty if it runs."""
    if job.suspended:
        return "queued: its Job is suspended, by Kueue or by hand"
    pod = job.newest_pod
    if pod is None:
        return job.message or _NO_POD
    if pod.started is not None:
        return _between_pods(job, pod)
    if pod.unschedulable:
        return f"no node for its pod: {pod.unschedulable}"
    if pod.waiting is not None and pod.waiting[0] not in ("ContainerCreating", "PodInitializing"):
        return f"{pod.waiting[0]}: {pod.waiting[1]}".rstrip(": ")
    return _STARTING


def _between_pods(job: StageJob, pod: StagePod) -> str:
    """Of a pod that has begun: that another one has to follow, else nothing."""
    if pod.ended is None and pod.disrupted:
        return f"its pod is taken away ({pod.disrupted}), and another will follow"
    if pod.ended is not None and pod.ended.exit_code in TRIED_AGAIN and not job.ended:
        return f"its pod has failed ({TRIED_AGAIN[pod.ended.exit_code]}) and is tried again"
    return ""


def hopeless(job: StageJob, stage: Stage, now: datetime, patience: timedelta) -> Failure | None:
    """The failure of a Job whose pod will not start; None while it runs or may yet."""
    pod = job.newest_pod
    if pod is None or pod.waiting is None:
        return None
    reason, said = pod.waiting
    waited = now - (pod.scheduled or pod.created)
    if reason in _NEVER or (reason in _PULLING and waited >= patience):
        message = f"the image of {stage} cannot be pulled: {said or reason}"
        return failure_of(StageFailure(FailureClass.IMAGE_PULL, message), stage)
    if reason in _CONFIGURATION and waited >= patience:
        message = f"the container of {stage} cannot be started ({reason}): {said}"
        hint = "Look at spec.stages and at what the operator adds to pods."
        return failure_of(StageFailure(FailureClass.SPEC_INVALID, message, hint), stage)
    return None


def patience_ends(job: StageJob, patience: timedelta) -> datetime | None:
    """When waiting for this Job's pod is over, None where nothing is waited for that may end so."""
    pod = job.newest_pod
    if pod is None or pod.waiting is None or pod.waiting[0] not in (*_PULLING, *_CONFIGURATION):
        return None
    return (pod.scheduled or pod.created) + patience
