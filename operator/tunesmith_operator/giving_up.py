"""When waiting for a Job's pod cannot help any more: at once, or after a stated patience (design, contract 10)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.placement import quantity_number
from tunesmith_api.stages import Failure, Stage, failure_of
from tunesmith_operator.world import StageJob, StagePod

# The kubelet's reasons (pkg/kubelet/images and pkg/kubelet/container, events and waiting states): an image's name that
# is no name, or one that may not be pulled and is not there, does not heal; the others may.
_NEVER = ("InvalidImageName", "ErrImageNeverPull")
_PULLING = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable")
# A container that cannot be made from this template: a wrong securityContext, a missing key of a mounted object.
_CONFIGURATION = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
# The kubelet's word for a pod that it ended for want of a resource of its node, or of the pod's own (eviction API).
EVICTED = "Evicted"
# What admission says to a pod that it does not take (apiserver, admission.NewForbidden); a webhook that does not answer
# is an internal error instead, and may come back.
_FORBIDDEN = " is forbidden: "
# A quota's words (kubernetes, pkg/admission/resourcequota, controller.go): they heal where others give back, unless
# one pod asks for more than there is for all.
_QUOTA = re.compile(r"exceeded quota: (?P<quota>[^,]+), requested: (?P<asked>.*), used: .*, limited: (?P<limits>.*)")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may heal is waited for, and after how many evictions by its own node a stage has failed."""

    waiting: timedelta
    evictions: int


def given_up(
    job: StageJob, stage: Stage, now: datetime, patience: Patience, warnings: Mapping[str, str]
) -> Failure | None:
    """The failure of a Job that will not come to its end; None while it runs or may yet."""
    told = _evicted(job, stage, patience.evictions)
    if told is None and job.newest_pod is None:
        told = _without_pod(job, stage, now >= job.created + patience.waiting, warnings.get(job.uid, ""))
    elif told is None:
        ends = patience_ends(job, patience.waiting)
        told = _not_started(job, stage, impatient=ends is not None and now >= ends)
    return None if told is None else failure_of(told, stage)


def _evicted(job: StageJob, stage: Stage, limit: int) -> StageFailure | None:
    """The Job controller does not count what a node does, and a pod that asks for too little is evicted for ever."""
    pods = [pod for pod in job.pods if pod.disrupted and pod.refusal is not None and pod.refusal[0] == EVICTED]
    if len(pods) <= limit:
        return None
    newest = max(pods, key=lambda pod: pod.created)
    said = newest.refusal[1] if newest.refusal else ""
    message = f"{len(pods)} pods of {stage} were evicted by nodes that ran short: {said}"
    hint = f"Ask for what it uses: spec.stages, name: {stage}, resources.requests.memory or ephemeral-storage."
    return StageFailure(FailureClass.EVICTED, message, hint)


def _without_pod(job: StageJob, stage: Stage, impatient: bool, warning: str) -> StageFailure | None:
    if job.suspended or job.ended:
        return None
    quota = _QUOTA.search(warning)
    if quota is not None:
        return _never_within(quota, stage)
    if not (impatient and _FORBIDDEN in warning):
        return None
    hint = "Create what it names, or change spec.stages or what the operator adds to pods."
    return StageFailure(FailureClass.SPEC_INVALID, f"no pod can be made for {stage}: {warning}", hint)


def _never_within(quota: re.Match[str], stage: Stage) -> StageFailure | None:
    """Only what a pod alone asks for beyond the whole quota; anything else may be given back by others."""
    asked, limits = _amounts(quota["asked"]), _amounts(quota["limits"])
    for name, amount in asked.items():
        if name in limits and quantity_number(amount) > quantity_number(limits[name]):
            message = f"{stage} asks for {name} {amount}, and the quota {quota['quota']} has {limits[name]} for all"
            hint = f"Ask for more quota, or for less: spec.stages, name: {stage}, resources."
            return StageFailure(FailureClass.QUOTA_EXCEEDED, message, hint)
    return None


def _amounts(text: str) -> dict[str, str]:
    return dict(re.findall(r"([^\s,=]+)=([^\s,]+)", text))


def _not_started(job: StageJob, stage: Stage, *, impatient: bool) -> StageFailure | None:
    pod = job.newest_pod
    if pod is None or pod.waiting is None:
        return None
    reason, said = pod.waiting
    if reason in _NEVER or (reason in _PULLING and impatient):
        return StageFailure(FailureClass.IMAGE_PULL, f"the image of {stage} cannot be pulled: {said or reason}")
    if reason in _CONFIGURATION and impatient:
        message = f"the container of {stage} cannot be started ({reason}): {said}"
        return StageFailure(
            FailureClass.SPEC_INVALID, message, "Look at spec.stages and at what the operator adds to pods."
        )
    return None


def patience_ends(job: StageJob, patience: timedelta) -> datetime | None:
    """When waiting for this Job's pod is over, None where nothing is waited for that may end so."""
    pod = job.newest_pod
    if pod is None:
        return job.created + patience
    if pod.waiting is None or pod.waiting[0] not in (*_PULLING, *_CONFIGURATION):
        return None
    return _placed(pod) + patience


def _placed(pod: StagePod) -> datetime:
    return pod.scheduled or pod.created
