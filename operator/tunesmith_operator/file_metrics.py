"""What each quantized file has measured, for dashboards of few jobs: metrics that name a job, so off by default."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tunesmith_operator.cache import Cache

_LABELS = ("namespace", "finetunejob", "type")
# By the name in status.artifacts[].figures: the metric's, and what it says.
_FIGURES = {
    "perplexityIncrease": ("perplexity_increase", "By how much its perplexity is above that of the bf16 file."),
    "score": ("score", "Its score on held-out prompts, by the job's metric, from 0 to 1."),
}


@dataclass(frozen=True, slots=True, eq=False)
class FileMetrics(Collector):
    """Read out of the statuses when it is asked for; gone with their objects."""

    cache: Cache

    def collect(self) -> Iterator[Metric]:
        """The families of this moment."""
        size = GaugeMetricFamily("tunesmith_file_bytes", "The size of a quantized file.", labels=_LABELS)
        figures = {
            name: GaugeMetricFamily(f"tunesmith_file_{metric}", said, labels=_LABELS)
            for name, (metric, said) in _FIGURES.items()
        }
        for (namespace, job), seen in self.cache.objects.items():
            for file in json.loads(seen.status).get("artifacts") or ():
                labels = (namespace, job, str(file["name"]))
                if _is_number(file.get("bytes")):
                    size.add_metric(labels, file["bytes"])
                for name, value in (file.get("figures") or {}).items():
                    if name in figures and _is_number(value):
                        figures[name].add_metric(labels, value)
        yield from (size, *figures.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
