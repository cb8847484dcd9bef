"""A stage's progress becomes Kubeflow's trainer-status payload, posted at most every few seconds (contract 11)."""

import json
import ssl
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path

from tunesmith_api.stages import ProgressEndpoint

# The interval of Transformers' own KubeflowCallback, so that a server sees one rate from every engine.
INTERVAL_SECONDS = 5.0
# On loopback nothing is gained by holding back: a person is watching.
LOCAL_INTERVAL_SECONDS = 0.5
_TIMEOUT_SECONDS = 2.0
# The share from which on the pace is that of the work, and not of a model that loads beside it (our own choice: the 5
# steps of a training of 1,000).
_TELLING = 0.005


@dataclass(frozen=True, slots=True)
class Mark:
    """How much was done (0 to 1) at which second of a clock."""

    fraction: float
    seconds: float


@dataclass(slots=True)
class ProgressPoster:
    """Posts the newest state in a thread of its own; never delays and never fails the stage.

    Time left is told from the first report on, and anew from each that names a `phase`: what was done before it (by an
    earlier attempt, or while a model was loaded) says nothing of how fast the rest goes.
    """

    endpoint: ProgressEndpoint
    clock: Callable[[], float] = time.monotonic
    _begun: Mark | None = None
    _newest: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=1))
    _changed: threading.Event = field(default_factory=threading.Event)
    _closed: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._post_until_closed, name="progress", daemon=True)
        self._thread.start()

    def __call__(self, fraction: float, metrics: Mapping[str, float | int | str] | None = None) -> None:
        now = Mark(min(max(fraction, 0.0), 1.0), self.clock())
        metrics = metrics or {}
        if self._begun is None or "phase" in metrics:
            self._begun = now
        self._newest.append(status_payload(now.fraction, metrics, seconds_left(self._begun, now)))
        self._changed.set()

    def close(self) -> None:
        """Post what is newest and stop; returns after some seconds at the most."""
        self._closed.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join(_TIMEOUT_SECONDS * 2)

    def _post_until_closed(self) -> None:
        local = self.endpoint.url.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]"))
        interval = LOCAL_INTERVAL_SECONDS if local else INTERVAL_SECONDS
        closed = False
        while not closed:
            self._changed.wait()
            self._changed.clear()
            # Asked before the newest is taken: what was reported before the end is always posted.
            closed = self._closed.is_set()
            if self._newest:
                _post(self.endpoint, self._newest.pop())
            self._closed.wait(interval)


def seconds_left(begun: Mark, now: Mark) -> int | None:
    """What the rest takes at the pace since `begun`; None where too little has been done since to tell a pace by."""
    done = now.fraction - begun.fraction
    if done < _TELLING:
        return None
    return int((now.seconds - begun.seconds) * (1 - now.fraction) / done)


def status_payload(
    fraction: float, metrics: Mapping[str, float | int | str], left: int | None = None
) -> dict[str, object]:
    """The protocol's body; metric values are strings, `left` are seconds (None: not known)."""
    status: dict[str, object] = {
        "lastUpdatedTime": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "progressPercentage": int(fraction * 100),
        "metrics": [{"name": name, "value": str(value)} for name, value in metrics.items()],
    }
    if left is not None:
        status["estimatedRemainingSeconds"] = left
    return {"trainerStatus": status}


def _post(endpoint: ProgressEndpoint, payload: Mapping[str, object]) -> None:
    headers = {"Content-Type": "application/json"}
    try:
        if endpoint.token_file:
            # Read each time: Kubernetes puts a fresh token there before the old one expires.
            headers["Authorization"] = f"Bearer {Path(endpoint.token_file).read_text().strip()}"
        request = urllib.request.Request(endpoint.url, json.dumps(payload).encode(), headers)  # noqa: S310  # from the request
        secure = endpoint.url.startswith("https:")
        context = ssl.create_default_context(cadata=endpoint.ca_certificate) if secure else None
        # The operator is in the same cluster, the runner on the same machine: a proxy leads elsewhere.
        direct = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        with urllib.request.build_opener(*direct).open(request, timeout=_TIMEOUT_SECONDS):
            pass
    except (OSError, HTTPException):
        # Progress is a courtesy: whoever listens may be away, and the work is not the worse for it.
        return


def no_progress(fraction: float, metrics: Mapping[str, float | int | str] | None = None) -> None:
    """Where nobody listens."""
    del fraction, metrics
