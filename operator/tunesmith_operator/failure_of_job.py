"""Why a stage's Job failed, from what Kubernetes and the stage itself left: condition, exit code, last words."""

from tunesmith_api.failures import FAILURES, FailureClass, StageFailure
from tunesmith_api.stages import Failure, Stage, failure_of
from tunesmith_operator.giving_up import EVICTED
from tunesmith_operator.last_words import result_of
from tunesmith_operator.tries import killed_for_memory
from tunesmith_operator.world import DEADLINE_EXCEEDED, Ended, StageJob, StagePod

_CLASSES = {rule.exit_code: failure for failure, rule in FAILURES.items()}


def failure_of_job(job: StageJob, stage: Stage) -> Failure:
    """The classified failure of a Job that has failed."""
    newest = job.newest_pod
    if job.reason == DEADLINE_EXCEEDED:
        message = f"{stage} did not end in time: {job.message}"
        return failure_of(StageFailure(FailureClass.DEADLINE, message), stage)
    # An older pod may have told something else, and this one have been killed before it could tell anything.
    told = None if newest is None else result_of([newest])
    if told is not None and told.failure is not None:
        return told.failure.model_copy(update={"stage": stage})
    return failure_of(_seen(job, newest, stage), stage)


def _seen(job: StageJob, newest: StagePod | None, stage: Stage) -> StageFailure:
    if newest is None:
        message = f"{stage} failed ({job.reason}: {job.message}), and its pod is gone"
        return StageFailure(FailureClass.INTERNAL, message, "Retry; if it repeats, look at the namespace's events.")
    if newest.refusal is not None and not newest.disrupted:
        return _by_its_node(newest.refusal, stage)
    if newest.ended is None:
        return StageFailure(
            FailureClass.EVICTED, f"the pod of {stage} was taken away: {newest.disrupted or job.message}"
        )
    return _ended(newest.ended, stage)


def _by_its_node(refusal: tuple[str, str], stage: Stage) -> StageFailure:
    """What the kubelet says of the pod as a whole: without a disruption it is evicted for its own use of the disk."""
    reason, said = refusal
    if reason == EVICTED:
        hint = f"Give it more: spec.stages, name: {stage}, resources.limits.ephemeral-storage."
        return StageFailure(FailureClass.DISK_FULL, f"{stage} used more of its node's disk than it may: {said}", hint)
    return StageFailure(FailureClass.UNSCHEDULABLE, f"a node refused the pod of {stage} ({reason}): {said}")


def _killed(ended: Ended, stage: Stage) -> StageFailure:
    """Without a limit it is the node that had no more, and the kubelet does not always say so."""
    told = "for its memory" if ended.reason == "OOMKilled" else "by SIGKILL, most likely for its memory"
    message = f"{stage} was killed {told}: it needed more than its limit or, without one, than its node had left"
    more = f"spec.stages, name: {stage}, resources.requests.memory, and resources.limits.memory where it has one"
    hint = f"Give it more: {more}; or choose a smaller length or batch."
    return StageFailure(FailureClass.OUT_OF_MEMORY, message, hint)


def _ended(ended: Ended, stage: Stage) -> StageFailure:
    if killed_for_memory(ended):
        return _killed(ended, stage)
    known = _CLASSES.get(ended.exit_code)
    last = ended.message.strip()[-1000:] or "it said nothing"
    if known is not None:
        return StageFailure(known, f"{stage} failed: {last}")
    return StageFailure(FailureClass.INTERNAL, f"{stage} ended with {ended.exit_code} ({ended.reason}): {last}")
