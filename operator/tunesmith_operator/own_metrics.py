"""What Prometheus reads of the operator itself: its passes, what it asks of the API server, what watches tell."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from tunesmith_operator.delivering import Deliveries
from tunesmith_operator.freshness import Freshness
from tunesmith_operator.kube import JOBS, OBJECTS, PODS, Kube, resource_of
from tunesmith_operator.turns import Turns

# Seconds: a pass with one write takes some thousandths, one that waits for the API server up to a minute.
_PASS_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60)


class OwnMetrics:
    """Counts of what the operator has done since it started."""

    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        said = "Passes over a job, by how they ended."
        self._passes = Counter("tunesmith_reconciles", said, ["result"], registry=registry)
        for result in ("Done", "Failed"):
            self._passes.labels(result)
        said = "Seconds that a pass over a job took."
        self._seconds = Histogram(
            "tunesmith_reconcile_duration_seconds", said, buckets=_PASS_BUCKETS, registry=registry
        )
        build = Gauge("tunesmith_build_info", "The operator's version.", ["version"], registry=registry)
        build.labels(version).set(1)

    def passed(self, result: str, seconds: float) -> None:
        """A pass is over."""
        self._passes.labels(result).inc()
        self._seconds.observe(seconds)


@dataclass(frozen=True, slots=True, eq=False)
class StateMetrics(Collector):
    """What waits for a pass, what was asked of the API server, and what watches have told, when it is asked for."""

    turns: Turns
    kube: Kube
    freshness: Freshness
    deliveries: Deliveries

    def collect(self) -> Iterator[Metric]:
        """The families of this moment."""
        said = "Jobs that wait for a pass."
        yield GaugeMetricFamily("tunesmith_reconciles_waiting", said, value=len(self.turns))
        said = "Requests to the API server, watches aside, by verb and status; without an answer the code is empty."
        requests = CounterMetricFamily("tunesmith_api_requests", said, labels=("verb", "code"))
        for labels, number in self.kube.asked.items():
            requests.add_metric(labels, number)
        said = "When a watch last told of an object, in seconds since 1970; where nothing changes that may be long ago."
        last = GaugeMetricFamily("tunesmith_watch_last_event_timestamp_seconds", said, labels=("resource",))
        for resource, moment in self.freshness.last_told.items():
            last.add_metric((resource,), moment.timestamp())
        said = "For how long a watch has not told what the API server is known to have."
        behind = GaugeMetricFamily("tunesmith_watch_behind_seconds", said, labels=("resource",))
        for resource in map(resource_of, (OBJECTS, JOBS, PODS)):
            behind.add_metric((resource,), self.freshness.behind(resource).total_seconds())
        said = "Notifications that were posted, Delivered or Failed; one that has failed is posted again."
        posted = CounterMetricFamily("tunesmith_notifications", said, labels=("result",))
        for result in ("Delivered", "Failed"):
            posted.add_metric((result,), self.deliveries.counted[result])
        yield from (requests, last, behind, posted)
