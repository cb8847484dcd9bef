"""A server on loopback that stages post their progress to (contract 11), each with a token of its own."""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tunesmith_api.progress import BODY_BYTES, ProgressReport, parse_report
from tunesmith_api.stages import ProgressEndpoint

# How long closing may take.
_LOOK_SECONDS = 0.05


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
                body = self.rfile.read(min(size, BODY_BYTES))
                report = None if stage is None else parse_report(stage, body)
                if report is not None:
                    listener.heard(report)
                self.send_response(401 if stage is None else 400 if report is None else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
                del format, args

        return Handler
