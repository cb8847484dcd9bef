"""Of jobs of a namespace that wait for the same GPU the highest goes first: `spec.priority`.

Kubernetes' own priorities are classes that an administrator makes, and need not be there. So a training that waits for
a GPU takes those of a lower priority out of the scheduler's queue. Its pod has to wait for a GPU indeed: one that no
node could take anyway keeps nobody from starting.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from tunesmith_api.stages import Stage
from tunesmith_api.status import StageState, StageStatus
from tunesmith_operator.world import StageJob, World

# How often it is looked whether a job's turn has come: what would say so are events of other jobs.
LOOK_EVERY = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Rival:
    """Another job of the namespace, and the Job of its training."""

    name: str
    priority: int
    training: StageJob


def outranked_by(priority: int, rivals: Iterable[Rival], gpu_resource: str) -> str:
    """The name of the highest that waits for a GPU and has a higher priority than this; empty if there is none."""
    above = (rival for rival in rivals if rival.priority > priority and _waits(rival.training, gpu_resource))
    first = max(above, key=lambda rival: rival.priority, default=None)
    return "" if first is None else first.name


def _waits(job: StageJob, gpu_resource: str) -> bool:
    """The scheduler's words (NodeResourcesFit): "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."."""
    pod = job.newest_pod
    return pod is not None and not job.deleting and f"Insufficient {gpu_resource}" in pod.unschedulable


def steps_back(world: World, stage: Stage) -> bool:
    """Whether this stage has to wait for a job of a higher priority."""
    return bool(world.outranked_by) and stage is Stage.TRAIN and world.spec.training.gpu is not None


def with_rank(world: World, stage: Stage, known: StageStatus) -> StageStatus:
    """The record of a stage without a Job, which says so if others go first."""
    if known.state is not StageState.WAITING or not steps_back(world, stage):
        return known
    message = f"waits for its turn: {world.outranked_by} has a higher spec.priority and waits for a GPU"
    return known.model_copy(update={"message": message})
