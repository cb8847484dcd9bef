"""A server of http.server, for as long as a block lasts."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

# Seconds between two looks whether it is to end; by itself half a second, which every test would wait for.
_LOOK_EVERY = 0.02


@contextmanager
def serving(server: ThreadingHTTPServer, certificate: Path | None = None) -> Iterator[None]:
    """Within it the server answers, by TLS with the `public.crt` and `private.key` of a folder."""
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "public.crt", certificate / "private.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(_LOOK_EVERY,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
