"""A job's conditions, phase by phase, as those read them who wait for it."""

import pytest

from support.builders import a_spec
from support.small_cluster import ROWS, Cluster, job_of, one_pass, settle, until
from tunesmith_api.failures import FailureClass
from tunesmith_api.status import Phase

NOTHING_YET = {"Ready": "Unknown", "Reconciling": "True"}
# What kstatus looks at first is there or absent; what `kubectl wait` waits for is always there.
TABLE = {
    Phase.PENDING: NOTHING_YET,
    Phase.RUNNING: NOTHING_YET,
    Phase.SUSPENDED: {"Ready": "Unknown", "Suspended": "True"},
    Phase.COMPLETE: {"Ready": "True", "Complete": "True", "Finished": "True"},
    Phase.FAILED: {"Ready": "False", "Stalled": "True", "Failed": "True", "Finished": "True"},
}
FALSE = dict.fromkeys(("Complete", "Failed", "Finished", "Suspended"), "False")


def cluster_in(phase: Phase) -> Cluster:
    """A job that has come there."""
    cluster = Cluster(spec=a_spec(datasets=ROWS))
    if phase is Phase.PENDING:
        one_pass(cluster)
    elif phase is Phase.COMPLETE:
        settle(cluster)
    else:
        until(cluster, "train")
    if phase is Phase.SUSPENDED:
        cluster.edit(suspend=True)
        settle(cluster)
    if phase is Phase.FAILED:
        cluster.fail(job_of(cluster, "train"), FailureClass.TRAINING_DIVERGED)
        settle(cluster)
    return cluster


@pytest.mark.parametrize("phase", list(Phase))
def test_conditions_say_where_a_job_stands(phase: Phase) -> None:
    """All of them, and each says of which generation."""
    cluster = cluster_in(phase)
    assert cluster.status.phase is phase

    assert {each.type: each.status for each in cluster.status.conditions} == FALSE | TABLE[phase]
    assert {each.observed_generation for each in cluster.status.conditions} == {cluster.generation}
