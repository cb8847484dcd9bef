"""What a training tells while it runs: served as it is reported, and handed on all the same."""

import re
from collections.abc import Mapping

import httpx

from support.control_plane import ROOT
from support.prometheus import checked_metrics
from support.servers import free_ports
from tunesmith_trainer import live_metrics
from tunesmith_trainer.live_metrics import served
from tunesmith_trainer.report_progress import no_progress

PAGE = ROOT / "docs" / "monitoring.md"


def test_what_is_reported_is_served_and_handed_on() -> None:
    """The newest value of each; what nobody has told is absent, and words are no metric."""
    heard: list[tuple[float, Mapping[str, float | int | str] | None]] = []
    [port] = free_ports(1)

    def hear(fraction: float, metrics: Mapping[str, float | int | str] | None = None) -> None:
        heard.append((fraction, metrics))

    with served(hear, port) as progress:
        progress(0.0, {"phase": "loading"})
        progress(0.1, {"loss": 2.5, "learning_rate": 2e-4, "current_step": 1, "total_steps": 10})
        progress(0.2, {"loss": 1.5, "current_step": 2, "memory_bytes": 5_000_000_000})
        page = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).raise_for_status().text

    values = dict(line.split() for line in page.splitlines() if not line.startswith("#"))
    assert {name: float(value) for name, value in values.items()} == {
        "tunesmith_training_loss": 1.5,
        "tunesmith_training_learning_rate": 2e-4,
        "tunesmith_training_step": 2,
        "tunesmith_training_steps": 10,
        "tunesmith_training_memory_bytes": 5e9,
    }
    assert checked_metrics(page) == ""
    assert [fraction for fraction, _ in heard] == [0.0, 0.1, 0.2]


def test_a_port_is_free_again_once_the_stage_is_over() -> None:
    """The next training of the same pod takes it."""
    [port] = free_ports(1)
    for _ in range(2):
        with served(no_progress, port):
            assert httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).is_success


def test_every_metric_of_a_training_is_on_the_page() -> None:
    """And no other."""
    said = set(re.findall(r"^\| `(tunesmith_training_[a-z_]+)` \|", PAGE.read_text(), re.MULTILINE))

    assert said == {f"tunesmith_training_{name}" for name, _ in live_metrics._GAUGES.values()}
