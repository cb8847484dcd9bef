"""All orders of a few events, not a sample of them: of a small job, to a fixed depth, from each point of its way."""

from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest

from support.builders import a_plan, a_spec
from support.small_cluster import ROWS, Cluster, one_pass, settle, until
from tunesmith_api.status import Phase
from tunesmith_operator.world import JobState, World

# What follows one another in all orders, each as often as it likes; deeper ones take minutes and have found no more.
DEPTH = 5
SPEC = a_spec(datasets=ROWS, quantizations=["Q8_0"])
STAGES = [stage.name for stage in a_plan(SPEC).stages]

Move = Callable[["Counted"], object]


@dataclass
class Counted(Cluster):
    """A cluster that counts by stage what costs one more Job: results that are lost, and creates out of an old view.

    No create can be made to depend on what else there is: the Job of a turn that is over is made, found, and deleted.
    """

    costs: "Counter[str]" = field(default_factory=Counter)


def lose(cluster: Counted, name: str) -> None:
    """A stage ends well and nobody hears what it said."""
    cluster.costs = cluster.costs + Counter([cluster.jobs[name].stage])
    cluster.complete(name, message="")


def look_late(cluster: Counted, old: tuple[World, int]) -> None:
    """A second operator acts on what it saw."""
    before = len(cluster.made)
    one_pass(cluster, *old)
    cluster.costs = cluster.costs + Counter(cluster.made[before:])


def apart(cluster: Counted) -> Counted:
    """The same cluster, to go on by itself; what it holds is never changed in place but for these."""
    again = copy(cluster)
    again.jobs, again.created = dict(cluster.jobs), cluster.created.copy()
    again.made, again.answered = list(cluster.made), set(cluster.answered)
    return again


def moves(cluster: Counted, old: tuple[World, int]) -> Iterator[Move]:
    """All that can happen next; `old` is what a second operator saw at the beginning."""
    yield one_pass
    for writes in (0, 1):
        yield lambda each, writes=writes: one_pass(each, writes=writes)
    yield partial(look_late, old=old)
    if any(job.deleting for job in cluster.jobs.values()):
        yield Counted.collect
    for name, job in cluster.jobs.items():
        if job.state is JobState.PENDING:
            yield lambda each, name=name: each.start(name)
        if job.state is JobState.RUNNING:
            yield lambda each, name=name: each.complete(name)
            # What says nothing twice has failed.
            if not cluster.costs[job.stage]:
                yield partial(lose, name=name)
            yield lambda each, name=name: each.evict(name)


def fingerprint(cluster: Counted) -> tuple[Any, ...]:
    """What tells one state from another: names given out and counted versions do not."""
    jobs = sorted(
        (name, repr(replace(job, uid="", version=0, pods=tuple(replace(pod, uid="") for pod in job.pods))))
        for name, job in cluster.jobs.items()
    )
    return (cluster.status.model_dump_json(), tuple(jobs), tuple(sorted(cluster.costs.items())))


def reached(begin: Counted) -> list[Counted]:
    """Every state that so many moves lead to, once."""
    old = (begin.world(), begin.version)
    known, layer = {fingerprint(begin): begin}, [begin]
    for _ in range(DEPTH):
        following: dict[tuple[Any, ...], Counted] = {}
        for state in layer:
            for move in moves(state, old):
                after = apart(state)
                move(after)
                following.setdefault(fingerprint(after), after)
        layer = [state for mark, state in following.items() if mark not in known]
        known |= following
    return list(known.values())


@pytest.mark.parametrize("stage", ["", *STAGES])
def test_all_orders_come_to_one_end(stage: str) -> None:
    """The same end, and no Job that is not needed: one for each stage, and one for each that had to be."""
    begin = Counted(spec=SPEC)
    if stage:
        until(begin, stage)
    states = reached(begin)
    assert len(states) > 4 * DEPTH

    for state in states:
        status = settle(state)
        assert status.phase is Phase.COMPLETE, (status.phase, status.message)
        assert not Counter(state.made) - Counter(STAGES) - state.costs
