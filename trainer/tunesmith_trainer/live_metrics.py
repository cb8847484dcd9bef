"""What a training says of its progress, for a Prometheus that looks while it runs (docs/monitoring.md)."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tunesmith_trainer.work import Progress

if TYPE_CHECKING:
    from prometheus_client import Gauge

_PREFIX = "tunesmith_training"
# By the name in a progress report: the metric's own, in Prometheus' base units, and what it says.
_GAUGES = {
    "loss": ("loss", "The loss of the last step."),
    "eval_loss": ("eval_loss", "The loss on held-out rows, as last computed."),
    "learning_rate": ("learning_rate", "The learning rate of the last step."),
    "grad_norm": ("gradient_norm", "The norm of the last step's gradient."),
    "tokens_per_second": ("tokens_per_second", "Tokens of the last step, padding aside, by its seconds."),
    "memory_bytes": ("memory_bytes", "The most memory that it has held, on the GPU where it has one."),
    "epoch": ("epoch", "How many times it has been through the rows."),
    "current_step": ("step", "The optimizer step that was reached."),
    "total_steps": ("steps", "The optimizer steps that there are."),
    "checkpoint_step": ("checkpoint_step", "The step of the newest checkpoint in the store."),
}

REPORTED = tuple(_GAUGES)


class LiveMetrics:
    """Hands every report on, and keeps the newest value of each metric; what was not told yet is absent."""

    def __init__(self, then: Progress) -> None:
        from prometheus_client import CollectorRegistry

        self.registry = CollectorRegistry()
        self._then = then
        self._known: dict[str, Gauge] = {}

    def __call__(self, fraction: float, metrics: Mapping[str, float | int | str] | None = None) -> None:
        for told, value in (metrics or {}).items():
            if told in _GAUGES:
                self._gauge(told).set(float(value))
        self._then(fraction, metrics)

    def _gauge(self, told: str) -> "Gauge":
        from prometheus_client import Gauge

        if told not in self._known:
            name, said = _GAUGES[told]
            self._known[told] = Gauge(f"{_PREFIX}_{name}", said, registry=self.registry)
        return self._known[told]


@contextmanager
def served(then: Progress, port: int) -> Iterator[Progress]:
    """Within it what is reported is served on /metrics by plain HTTP, on every address of the machine."""
    from prometheus_client import start_http_server

    metrics = LiveMetrics(then)
    every = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104  # Prometheus comes from elsewhere
    server, thread = start_http_server(port, every, metrics.registry)
    try:
        yield metrics
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
