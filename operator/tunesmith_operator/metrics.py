"""All that Prometheus reads of the operator, in one registry: what is counted where it happens."""

from importlib.metadata import version

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from tunesmith_operator.job_metrics import JobMetrics
from tunesmith_operator.own_metrics import OwnMetrics


class Metrics:
    """The counts of an operator; families that are only made when somebody asks are registered beside them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs = JobMetrics(self.registry)
        self.own = OwnMetrics(self.registry, version("tunesmith"))
        PlatformCollector(registry=self.registry)
        ProcessCollector(registry=self.registry)
