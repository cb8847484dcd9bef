"""A real forward proxy on loopback: plain HTTP in absolute form, all else by CONNECT; it remembers what went through.

Hosts that end with ``.invalid`` are this machine to it, and to nobody else (RFC 6761, 6.4).
"""

import base64
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support.servers import self_signed
from support.serving import serving

# Between two neighbours only (RFC 9110, 7.6.1).
_NOT_FORWARDED = {"connection", "proxy-authorization", "proxy-connection", "transfer-encoding"}
_BLOCK = 1 << 16


class ForwardProxy(ThreadingHTTPServer):
    """Lets through whom it knows (``name:password``, None: all); `passed` is each request that went through.

    With a `refusal` it answers everything with this status, in its own words.
    """

    def __init__(self, credentials: str | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.passed: list[tuple[str, str]] = []
        self.refusal: int | None = None
        self.wanted = None if credentials is None else f"Basic {base64.b64encode(credentials.encode()).decode()}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"


@contextmanager
def forward_proxy(credentials: str | None = None, certificate: Path | None = None) -> Iterator[ForwardProxy]:
    """A proxy that is up; with a folder for its `certificate` it is behind TLS itself (`self_signed` writes there)."""
    proxy = ForwardProxy(credentials)
    if certificate is not None:
        self_signed(certificate)
    with serving(proxy, certificate):
        yield proxy


class _Handler(BaseHTTPRequestHandler):
    server: ForwardProxy
    protocol_version = "HTTP/1.1"
    # Else headers and body wait for each other's acknowledgement.
    disable_nagle_algorithm = True

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        if not self._admitted():
            return
        try:
            upstream = socket.create_connection((_known(host), int(port)))
        except OSError:
            self.send_error(502)
            return
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        with upstream, suppress(OSError):
            _relay(self.connection, upstream)

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._admitted():
            return
        url = urlsplit(self.path)
        upstream = HTTPConnection(_known(url.hostname or ""), url.port)
        path = self.path.partition(url.netloc)[2]
        try:
            upstream.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
            for name, value in _forwarded(self.headers):
                upstream.putheader(name, value)
            upstream.endheaders(body)
            self._answer(upstream.getresponse())
        except OSError:
            self.send_error(502)
        finally:
            upstream.close()

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815  # the names that the server looks for

    def _admitted(self) -> bool:
        if self.server.refusal is not None:
            self.send_error(self.server.refusal)
            return False
        if self.server.wanted in (None, self.headers.get("Proxy-Authorization")):
            self.server.passed.append((self.command, self.path))
            return True
        self.send_response(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def _answer(self, answer: HTTPResponse) -> None:
        content = answer.read()
        self.send_response_only(answer.status, answer.reason)
        for name, value in _forwarded(answer.headers):
            self.send_header(name, value)
        if answer.headers.get("Content-Length") is None and answer.status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        del format, args


def _known(host: str) -> str:
    return "127.0.0.1" if host.endswith(".invalid") else host


def _forwarded(headers: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in _NOT_FORWARDED]


def _relay(one: socket.socket, other: socket.socket) -> None:
    """What comes from either goes to the other, until one of them ends."""
    to = {one: other, other: one}
    while True:
        for source in select.select(list(to), [], [])[0]:
            # A whole TLS record at once: what stays behind in the session would wake nobody.
            data = source.recv(_BLOCK)
            if not data:
                return
            to[source].sendall(data)
