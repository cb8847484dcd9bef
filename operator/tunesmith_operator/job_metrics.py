"""What Prometheus reads of jobs (docs/monitoring.md): counts as things happen, and how jobs stand when it asks.

No metric has the name of a job or of a namespace: each would be a series for ever (Prometheus documentation, practices,
naming and instrumentation).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from tunesmith_api.failures import FailureClass
from tunesmith_api.stages import Stage
from tunesmith_api.status import Phase
from tunesmith_operator.cache import Cache
from tunesmith_operator.census import census
from tunesmith_operator.history import COMPLETED, Count, Counted

# Seconds: a stage that finds its artifact takes some, a training up to a day.
_STAGE_BUCKETS = (1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)
# Seconds: an idle node takes a pod at once, a full cluster after hours.
_WAIT_BUCKETS = (1, 2, 5, 15, 60, 300, 1800, 7200, 28_800, 86_400)


class JobMetrics:
    """Counts of what has happened to jobs since the operator started."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, said: str, *labels: str) -> Counter:
            return Counter(f"tunesmith_{name}", said, labels, registry=registry)

        def histogram(name: str, said: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"tunesmith_{name}", said, labels, buckets=buckets, registry=registry)

        said = "Seconds from a stage's start to its end; of one that was found in the store with the result Reused."
        seconds = histogram("stage_duration_seconds", said, ("stage", "result"), _STAGE_BUCKETS)
        said = "Seconds that a stage has waited for its pod to run."
        waits = histogram("stage_wait_seconds", said, ("stage",), _WAIT_BUCKETS)
        self._of: dict[Counted, Counter | Histogram] = {
            Counted.COMPLETION: counter("job_completions", "Jobs that became Complete or Failed.", "result", "reason"),
            Counted.RETRY: counter("stage_retries", "Stages that were begun anew.", "stage", "reason"),
            Counted.GPU_SECONDS: counter("gpu_seconds", "Seconds for which pods of training have held a GPU."),
            Counted.CPU_SECONDS: counter("stage_cpu_seconds", "Processor time of stages, in seconds of one core."),
            Counted.ARTIFACT_BYTES: counter("artifact_bytes", "Bytes of the files that stages have made.", "stage"),
            Counted.STAGE_SECONDS: seconds,
            Counted.WAIT_SECONDS: waits,
        }
        said = "When a job last became Complete, in seconds since 1970; 0 if none has since the operator started."
        self._success = Gauge("tunesmith_last_success_timestamp_seconds", said, registry=registry)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """What alerts count is there before it happens: a series that begins above 0 has no increase.

        Prometheus documentation, practices, instrumentation, "Avoid missing metrics".
        """
        completions, retries = self._of[Counted.COMPLETION], self._of[Counted.RETRY]
        completions.labels(Phase.COMPLETE, COMPLETED)
        for failure in FailureClass:
            completions.labels(Phase.FAILED, failure)
        for stage in Stage:
            retries.labels(stage, FailureClass.STORE_UNAVAILABLE)

    def count(self, counts: Iterable[Count], now: datetime) -> None:
        """What has happened to a job."""
        for each in counts:
            metric = self._of[each.what]
            one = metric.labels(*each.labels) if each.labels else metric
            if isinstance(one, Histogram):
                one.observe(each.value)
            else:
                one.inc(each.value)
            if each.what is Counted.COMPLETION and each.labels[0] == Phase.COMPLETE:
                self._success.set(now.timestamp())


@dataclass(frozen=True, slots=True, eq=False)
class CensusMetrics(Collector):
    """How jobs stand, counted when it is asked for."""

    cache: Cache
    clock: Callable[[], datetime]
    listening: datetime | None

    def collect(self) -> Iterator[Metric]:
        """The families of this moment; where pods are not heard (`listening`) nobody can say what is silent."""
        now = self.clock()
        counted = census(self.cache, now, self.listening or now)
        said = "Jobs by the stage that they have come to and their phase; a finished one has no stage."
        jobs = GaugeMetricFamily("tunesmith_jobs", said, labels=("stage", "condition"))
        for labels, number in counted.jobs.items():
            jobs.add_metric(labels, number)
        said = "Stages whose Job has no pod that runs, by what it waits for."
        waiting = GaugeMetricFamily("tunesmith_stages_waiting", said, labels=("stage", "reason"))
        for labels, number in counted.waiting.items():
            waiting.add_metric(labels, number)
        said = "The longest time for which one of these has waited for its pod to run."
        longest = GaugeMetricFamily("tunesmith_stage_waiting_seconds", said, labels=("stage", "reason"))
        for labels, seconds in counted.longest.items():
            longest.add_metric(labels, seconds)
        said = "The longest time for which a stage that works has not said how far it is."
        silent = GaugeMetricFamily("tunesmith_stage_silent_seconds", said, labels=("stage",))
        for stage, seconds in counted.silent.items() if self.listening is not None else ():
            silent.add_metric((stage,), seconds)
        said = "Pods that were taken away from their stages, by Kubernetes' reason."
        disruptions = CounterMetricFamily("tunesmith_disruptions", said, labels=("reason",))
        for reason, number in self.cache.disruptions.items():
            disruptions.add_metric((reason,), number)
        yield from (jobs, waiting, longest, silent, disruptions)
