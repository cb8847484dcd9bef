"""Between an upload in parts and its S3 server: no part goes on before another one is under way."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support.serving import serving

# For a client that sends its parts one after another; others wait for milliseconds.
_LONGEST_SECONDS = 20.0


@dataclass
class PartsProxy:
    """`port` is where it listens, `most` how many parts were under way at one moment."""

    port: int
    most: int = 0
    _under_way: set[str] = field(default_factory=set)
    _came: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def waiting_for_another(self, part: str) -> Iterator[None]:
        """A part is under way, and goes on when a second one is; one that is sent again is none."""
        with self._came:
            self._under_way.add(part)
            self.most = max(self.most, len(self._under_way))
            self._came.notify_all()
            self._came.wait_for(lambda: self.most > 1, _LONGEST_SECONDS)
        yield
        with self._came:
            self._under_way.discard(part)


@contextmanager
def parts_proxy(upstream: int) -> Iterator[PartsProxy]:
    """A proxy before the server at this port of the loopback, for one upload."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    proxy = PartsProxy(server.server_port)
    server.RequestHandlerClass = _handler(proxy, upstream)  # type: ignore[assignment]
    with serving(server):
        yield proxy


def _handler(proxy: PartsProxy, upstream: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.forward(self.body())

        def do_PUT(self) -> None:
            body = self.body()
            with proxy.waiting_for_another(self.path):
                self.forward(body)

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def forward(self, body: bytes) -> None:
            connection = HTTPConnection("127.0.0.1", upstream)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

    return Handler
