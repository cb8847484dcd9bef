"""Whether a job of a cluster can be tried again, and what would be: a pure question about its status."""

from tunesmith.cluster.problem import ClusterProblem
from tunesmith.cluster.seen import SeenJob
from tunesmith_api.failures import FailureClass
from tunesmith_api.status import StageState, StageStatus


def stages_to_retry(seen: SeenJob) -> tuple[str, ...]:
    """The stages that a retry begins anew; none where only the time was up, which a retry gives once more.

    Among them are those that wait for a store that is away: whoever asks knows that it is back. Raises a
    `ClusterProblem` where there is nothing to try again.
    """
    failed = tuple(stage.name for stage in seen.status.stages if stage.state is StageState.FAILED or _waits(stage))
    failure = seen.status.failure
    if failed or (failure is not None and failure.failure is FailureClass.DEADLINE):
        return failed
    if failure is None:
        raise ClusterProblem(
            f"nothing of {seen.name} has failed: it is {seen.status.phase}",
            f"See where it stands: tunesmith status {seen.name}.",
        )
    message = f"no stage of {seen.name} has failed that could be tried again: {failure.failure}: {failure.message}"
    raise ClusterProblem(message, failure.hint)


def _waits(stage: StageStatus) -> bool:
    return stage.state is StageState.WAITING and stage.away_since is not None
