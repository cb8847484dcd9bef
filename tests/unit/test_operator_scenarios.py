"""The scenarios, played by the cluster in memory; tests/cluster plays them with a real API server."""

from typing import Any

import pytest

from support.scenarios import SCENARIOS, SPEC, Scenario
from support.small_cluster import Cluster, job_of, settle, until, withheld_text
from tunesmith_api.failures import FailureClass
from tunesmith_api.status import JobStatus


class InMemory:
    """A job of the cluster in memory."""

    def __init__(self) -> None:
        self.cluster = Cluster(spec=SPEC)

    def until(self, stage: str) -> None:
        until(self.cluster, stage)

    def fail(self, stage: str, failure: FailureClass) -> None:
        self.cluster.fail(job_of(self.cluster, stage), failure)

    def kill(self, stage: str) -> None:
        self.cluster.kill(job_of(self.cluster, stage))

    def evict(self, stage: str) -> None:
        self.cluster.evict(job_of(self.cluster, stage))

    def lose(self, stage: str) -> None:
        self.cluster.complete(job_of(self.cluster, stage), message="")

    def withhold(self, stage: str) -> None:
        self.cluster.complete(job_of(self.cluster, stage), message=withheld_text())

    def vanish(self, stage: str) -> None:
        self.cluster.vanish(job_of(self.cluster, stage))

    def edit(self, **changes: Any) -> None:
        self.cluster.edit(**changes)

    def retry(self, value: str) -> None:
        self.cluster.retry = value

    def rest(self) -> JobStatus:
        return settle(self.cluster)

    def made(self) -> list[str]:
        return self.cluster.made


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario(scenario: Scenario) -> None:
    """It ends as it is written."""
    scenario.play(InMemory())
