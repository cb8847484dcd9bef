"""The page of all metrics says what there is, and nothing else."""

import re

from prometheus_client import Metric
from prometheus_client.registry import Collector

from support.control_plane import ROOT
from support.small_cluster import NOON
from tunesmith_operator.cache import Cache
from tunesmith_operator.delivering import Deliveries
from tunesmith_operator.file_metrics import FileMetrics
from tunesmith_operator.freshness import Freshness
from tunesmith_operator.job_metrics import CensusMetrics
from tunesmith_operator.kube import Kube
from tunesmith_operator.metrics import Metrics
from tunesmith_operator.own_metrics import StateMetrics
from tunesmith_operator.turns import Turns

PAGE = ROOT / "docs" / "monitoring.md"


def series_of(family: Metric) -> str:
    """A family's name as it stands on the page that Prometheus reads."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def test_every_metric_of_the_operator_is_on_the_page() -> None:
    """With the labels that it has, which those that have not counted anything show as well."""
    metrics, cache = Metrics(), Cache()
    kube = Kube(None)  # type: ignore[arg-type]  # nothing is asked
    looked_at: list[Collector] = [
        CensusMetrics(cache, lambda: NOON, NOON),
        FileMetrics(cache),
        StateMetrics(Turns(), kube, Freshness(), Deliveries()),
    ]
    families = [*metrics.registry.collect(), *(family for each in looked_at for family in each.collect())]
    ours = {series_of(family) for family in families if family.name.startswith("tunesmith_")}

    assert set(re.findall(r"^\| `(tunesmith_(?!training_)[a-z_]+)` \|", PAGE.read_text(), re.MULTILINE)) == ours
