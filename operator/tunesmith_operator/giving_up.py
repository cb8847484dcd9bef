"""When waiting for a Job's pod cannot help any more: at once, or after a stated patience (design, contract 10)."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.placement import quantity_number
from tunesmith_api.stages import Failure, Stage, failure_of
from tunesmith_operator.world import StageJob, StagePod, Warned

# The kubelet's reasons (pkg/kubelet/images and pkg/kubelet/container, events and waiting states): an image's name that
# is no name, or one that may not be pulled and is not there, does not heal; the others may.
_NEVER = ("InvalidImageName", "ErrImageNeverPull")
_PULLING = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable")
# A container that cannot be made from this template: a wrong securityContext, a missing key of a mounted object.
_CONFIGURATION = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
# The kubelet's word for a pod that it ended for want of a resource of its node, or of the pod's own (eviction API).
EVICTED = "Evicted"
# What the API server says to a pod that it does not take: its own admission, validation after a LimitRange's defaults,
# a webhook of a policy engine (apiserver, admission.NewForbidden, errors.NewInvalid, webhook.ToStatusErr). A webhook
# that does not answer is an internal error instead, and may come back.
_REFUSED = (" is forbidden: ", " is invalid: ", " denied the request")
# A quota's words (kubernetes, pkg/admission/resourcequota, controller.go): they heal where others give back, unless
# one pod asks for more than there is for all.
_QUOTA = re.compile(r"exceeded quota: (?P<quota>[^,]+), requested: (?P<asked>.*), used: .*, limited: (?P<limits>.*)")
# A pod that a node short of memory or disk evicts soon after its start asks for less than it uses, and the Job
# controller, which does not count what nodes do, would start it for ever. Our own choice, with room for a node that is
# short for other reasons: five in a row, none of which lived for ten minutes.
_EVICTIONS, _LIVED = 5, timedelta(minutes=10)


def given_up(
    job: StageJob, stage: Stage, now: datetime, patience: timedelta, warnings: Mapping[str, Warned]
) -> Failure | None:
    """The failure of a Job that will not come to its end; None while it runs or may yet."""
    told = _evicted(job, stage)
    if told is None and job.newest_pod is None:
        warned = warnings.get(job.uid)
        impatient = warned is not None and now >= warned.since + patience
        told = _without_pod(stage, warned.text) if warned is not None and impatient else None
    elif told is None:
        ends = patience_ends(job, patience, warnings)
        told = _not_started(job, stage, impatient=ends is not None and now >= ends)
    return None if told is None else failure_of(told, stage)


def _evicted(job: StageJob, stage: Stage) -> StageFailure | None:
    """While another pod runs it is let be: it may have found a better node."""
    pods = sorted(job.pods, key=lambda pod: pod.created, reverse=True)
    if pods and pods[0].started is not None and pods[0].ended is None:
        return None
    ended = [pod for pod in pods if pod.started is not None or pod.refusal is not None]
    last = ended[:_EVICTIONS]
    if len(last) < _EVICTIONS or not all(map(_evicted_soon, last)):
        return None
    said = last[0].refusal[1] if last[0].refusal else ""
    message = f"the last {_EVICTIONS} pods of {stage} were evicted soon by nodes that ran short: {said}"
    hint = f"Ask for what it uses: spec.stages, name: {stage}, resources.requests.memory or ephemeral-storage."
    return StageFailure(FailureClass.EVICTED, message, hint)


def _evicted_soon(pod: StagePod) -> bool:
    """By its node, for want of what the node has; drained and preempted pods are no such thing."""
    evicted = pod.disrupted and pod.refusal is not None and pod.refusal[0] == EVICTED
    finished = None if pod.ended is None else pod.ended.finished
    lived = finished is not None and pod.started is not None and finished - pod.started >= _LIVED
    return bool(evicted) and not lived


def _without_pod(stage: Stage, warning: str) -> StageFailure | None:
    quota = _QUOTA.search(warning)
    if quota is not None:
        return _never_within(quota, stage)
    if not any(words in warning for words in _REFUSED):
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
        hint = "Look at spec.stages and at what the operator adds to pods."
        return StageFailure(FailureClass.SPEC_INVALID, message, hint)
    return None


def patience_ends(job: StageJob, patience: timedelta, warnings: Mapping[str, Warned]) -> datetime | None:
    """When waiting for this Job's pod is over, None where nothing is waited for that may end so."""
    pod, warned = job.newest_pod, warnings.get(job.uid)
    if pod is None:
        return None if warned is None else warned.since + patience
    if pod.waiting is None or pod.waiting[0] not in (*_PULLING, *_CONFIGURATION):
        return None
    return (pod.scheduled or pod.created) + patience
