"""A receiver of notifications that reads them with the libraries of their standards."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks import Webhook

from support.servers import free_ports
from support.serving import serving

# Standard Webhooks' form of a key: whsec_ and base64.
KEY = "whsec_bm90LWEtc2VjcmV0LWJ1dC1sb25nLWVub3VnaA=="


@dataclass
class Receiver:
    """What it has taken, as events; while `away` it answers 503. Whatever is not signed well is refused."""

    port: int
    away: bool = False
    taken: list[Any] = field(default_factory=list)
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jobs"

    def hear(self, headers: dict[str, str], body: bytes) -> int:
        """The status of the answer."""
        with self.lock:
            if self.away:
                self.refused += 1
                return 503
            Webhook(KEY).verify(body.decode(), headers)
            self.taken.append(from_http_event(HTTPMessage(headers=headers, body=body)))
            return 204


@contextmanager
def receiver(*, away: bool = False) -> Iterator[Receiver]:
    """Within it somebody listens."""
    [port] = free_ports(1)
    found = Receiver(port, away)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(found.hear(headers, body))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", port), Handler)):
        yield found
