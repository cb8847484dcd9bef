"""A relay to a TCP server that breaks its first connections in the middle of an answer."""

import contextlib
import socket
import threading
from collections.abc import Iterator

_BLOCK = 1 << 16


@contextlib.contextmanager
def cutting_proxy(port: int, *, cuts: int, after: int) -> Iterator[int]:
    """The port of a relay to ``127.0.0.1:port`` whose first `cuts` connections end after `after` answered bytes."""
    left = [cuts]
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, port, left, after), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket, port: int, left: list[int], after: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            upstream = socket.create_connection(("127.0.0.1", port))
            limit = after if left[0] > 0 else None
            left[0] -= 1
            threading.Thread(target=_relay, args=(client, upstream, None), daemon=True).start()
            threading.Thread(target=_relay, args=(upstream, client, limit), daemon=True).start()


def _relay(source: socket.socket, target: socket.socket, limit: int | None) -> None:
    passed = 0
    with contextlib.suppress(OSError):
        while data := source.recv(_BLOCK):
            target.sendall(data)
            passed += len(data)
            if limit is not None and passed >= limit:
                break
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
