"""A real HTTPS server on loopback with a certificate of its own, whose files a test puts there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support.servers import self_signed
from support.serving import serving


@dataclass
class Page:
    """What is behind a path: `status` other than 200 is an answer without content; `sent` bytes of it arrive."""

    content: bytes = b""
    etag: str | None = None
    status: int = 200
    token: str | None = None
    sent: int | None = None
    location: str | None = None
    head: bool = True


@dataclass
class Web:
    """The server's address, the file that certifies it, its pages by path, and every request that came.

    Of what was posted the token and the body.
    """

    url: str
    authority: Path
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    posted: list[tuple[str | None, bytes]] = field(default_factory=list)

    def put(self, path: str, content: bytes = b"", **facts: Any) -> str:
        """Lay a page down; its address."""
        self.pages[path] = Page(content, **facts)
        return f"{self.url}{path}"

    def served(self, path: str) -> int:
        """The bytes that were sent of a page in all."""
        return sum(count for _, asked, count in self.requests if asked == path)


@contextmanager
def serving_web(folder: Path) -> Iterator[Web]:
    """A server that is up; `folder` holds its certificate. Point SSL_CERT_FILE to its authority."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = self_signed(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    web = Web(f"https://127.0.0.1:{server.server_port}", authority)
    server.RequestHandlerClass = _handler(web)  # type: ignore[assignment]
    with serving(server, folder):
        yield web


def _headers(page: Page, content: bytes) -> list[tuple[str, str]]:
    facts = {"Content-Length": str(len(content)), "Location": page.location}
    facts["ETag"] = None if page.etag is None else f'"{page.etag}"'
    return [(name, value) for name, value in facts.items() if value is not None]


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            web.posted.append((self.headers.get("Authorization"), body))
            self.do_GET()

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            page = web.pages.get(path, Page(status=404))
            denied = page.token is not None and self.headers.get("Authorization") != f"Bearer {page.token}"
            status = 401 if denied else 403 if self.command == "HEAD" and not page.head else page.status
            content = page.content if status == 200 else b""
            self.send_response(status)
            for name, value in _headers(page, content):
                self.send_header(name, value)
            self.end_headers()
            web.requests.append((self.command, path, self._send(content[: page.sent])))

        def _send(self, content: bytes) -> int:
            """Send in pieces, so that one who hangs up early is seen to."""
            if self.command == "HEAD":
                return 0
            done = 0
            try:
                for start in range(0, len(content), 1 << 16):
                    self.wfile.write(content[start : start + (1 << 16)])
                    done = min(start + (1 << 16), len(content))
            except OSError:
                pass
            return done

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            del format, args

    return Handler
