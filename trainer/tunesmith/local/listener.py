"""A server on loopback that stages post their progress to (contract 11), each with a token of its own."""

import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tunesmith_api.stages import ProgressEndpoint

# A payload holds at most 256 metrics (Kubeflow Trainer's TrainJobStatus); this is ten times what that takes.
_BODY_BYTES = 256 * 1024
# How long closing may take.
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """One report: `percent` 0 to 100, seconds left as the stage estimates them, metrics by name."""

    stage: str
    percent: int
    seconds_left: float | None
    metrics: Mapping[str, str]


@dataclass(slots=True)
class ProgressListener:
    """Listens from `start` until `close` and hands every report to `heard`, in the server's own threads."""

    heard: Callable[[ProgressReport], None]
    _tokens: dict[str, str] = field(default_factory=dict)
    _server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Listen on a free port of the loopback interface."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(_LOOK_SECONDS,), name="progress listener", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def endpoint(self, stage: str, token_file: Path) -> ProgressEndpoint:
        """Where `stage` may post, with a new token in a file that only this user can read."""
        assert self._server is not None  # noqa: S101  # start() comes first
        token = secrets.token_urlsafe(32)
        self._tokens[token] = stage
        token_file.touch(mode=0o600)
        token_file.write_text(token)
        return ProgressEndpoint(url=f"http://127.0.0.1:{self._server.server_port}/", token_file=str(token_file))

    def _stage_of(self, authorization: str | None) -> str | None:
        return self._tokens.get((authorization or "").removeprefix("Bearer "))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                stage = listener._stage_of(self.headers.get("Authorization"))  # its own handler
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(min(size, _BODY_BYTES))
                report = None if stage is None else parse_report(stage, body)
                if report is not None:
                    listener.heard(report)
                self.send_response(401 if stage is None else 400 if report is None else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
                del format, args

        return Handler


def parse_report(stage: str, body: bytes) -> ProgressReport | None:
    """A payload of the protocol as a report, None if it is not one."""
    try:
        status = json.loads(body)["trainerStatus"]
        metrics = {str(item["name"]): str(item["value"]) for item in status.get("metrics") or ()}
        left = status.get("estimatedRemainingSeconds")
        return ProgressReport(
            stage=stage,
            percent=min(max(int(status["progressPercentage"]), 0), 100),
            seconds_left=None if left is None else float(left),
            metrics=metrics,
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
