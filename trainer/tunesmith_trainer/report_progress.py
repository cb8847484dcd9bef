"""A stage's progress becomes Kubeflow's trainer-status payload, posted at most every few seconds (contract 11)."""

import json
import ssl
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tunesmith_api.stages import ProgressEndpoint

# The interval of Transformers' own KubeflowCallback, so that a server sees one rate from every engine.
INTERVAL_SECONDS = 5.0
# On loopback nothing is gained by holding back: a person is watching.
LOCAL_INTERVAL_SECONDS = 0.5
_TIMEOUT_SECONDS = 2.0


@dataclass(slots=True)
class ProgressPoster:
    """Posts the newest state in a thread of its own; never delays and never fails the stage."""

    endpoint: ProgressEndpoint
    started: float = field(default_factory=time.monotonic)
    _newest: dict[str, object] | None = None
    _changed: threading.Event = field(default_factory=threading.Event)
    _closed: bool = False
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._post_forever, name="progress", daemon=True)
        self._thread.start()

    def __call__(self, fraction: float, metrics: Mapping[str, float | int | str] | None = None) -> None:
        fraction = min(max(fraction, 0.0), 1.0)
        self._newest = status_payload(fraction, metrics or {}, time.monotonic() - self.started)
        self._changed.set()

    def close(self) -> None:
        """Post what is newest and stop."""
        self._closed = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join(_TIMEOUT_SECONDS * 2)

    def _post_forever(self) -> None:
        local = self.endpoint.url.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]"))
        interval = LOCAL_INTERVAL_SECONDS if local else INTERVAL_SECONDS
        while not self._closed:
            self._changed.wait()
            self._changed.clear()
            if self._newest is not None:
                _post(self.endpoint, self._newest)
            if not self._closed:
                threading.Event().wait(interval)


def status_payload(fraction: float, metrics: Mapping[str, float | int | str], seconds: float) -> dict[str, object]:
    """The protocol's body; metric values are strings, the time left is extrapolated from the time taken (seconds)."""
    status: dict[str, object] = {
        "lastUpdatedTime": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "progressPercentage": int(fraction * 100),
        "metrics": [{"name": name, "value": str(value)} for name, value in metrics.items()],
    }
    if fraction > 0:
        status["estimatedRemainingSeconds"] = int(seconds * (1 - fraction) / fraction)
    return {"trainerStatus": status}


def _post(endpoint: ProgressEndpoint, payload: Mapping[str, object]) -> None:
    headers = {"Content-Type": "application/json"}
    if endpoint.token_file:
        headers["Authorization"] = f"Bearer {Path(endpoint.token_file).read_text().strip()}"
    request = urllib.request.Request(endpoint.url, json.dumps(payload).encode(), headers)  # noqa: S310  # from the request
    context = None
    if endpoint.url.startswith("https:"):
        context = ssl.create_default_context(cafile=endpoint.ca_cert)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS, context=context):  # noqa: S310
            pass
    except OSError:
        # Progress is a courtesy: whoever listens may be away, and the work is not the worse for it.
        return


def no_progress(fraction: float, metrics: Mapping[str, float | int | str] | None = None) -> None:
    """Where nobody listens."""
    del fraction, metrics
