"""The certificate that pods are shown: a renewed one once it is whole, by the server that is there."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from support.servers import free_ports, self_signed
from support.waiting import wait_until
from tunesmith_operator.cache import Cache
from tunesmith_operator.listening import CERTIFICATE, KEY, Listener
from tunesmith_operator.tokens import Tokens
from tunesmith_operator.turns import Turns

SECONDS = 60.0


async def no_keys() -> dict[str, object]:
    return {}


def pair(folder: Path) -> tuple[bytes, bytes]:
    """A new certificate and its key."""
    folder.mkdir()
    self_signed(folder)
    return (folder / "public.crt").read_bytes(), (folder / "private.key").read_bytes()


def shown(port: int) -> bytes:
    """The certificate that a new connection gets."""
    return ssl.get_server_certificate(("127.0.0.1", port)).encode()


def while_listening(certificates: Path, port: int, look: Callable[[], None]) -> None:
    """Looks at a server whose certificates lie there, and which looks for new ones all the time."""
    listener = Listener(Cache(), Turns(), Tokens(no_keys))

    async def serve() -> None:
        async with listener.listening(port, certificates, look_every=0.02):
            await asyncio.to_thread(look)

    asyncio.run(serve())


def test_a_renewed_certificate_is_shown_to_new_connections(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not before its key is there: until then the old one is good."""
    (old, old_key), (new, new_key) = pair(tmp_path / "old"), pair(tmp_path / "new")
    (tmp_path / CERTIFICATE).write_bytes(old)
    (tmp_path / KEY).write_bytes(old_key)
    [port] = free_ports(1)

    def renew() -> None:
        assert shown(port) == old
        (tmp_path / CERTIFICATE).write_bytes(new)
        wait_until(lambda: "cannot be used" in caplog.text, "the half of a pair to be seen", SECONDS)
        assert shown(port) == old
        (tmp_path / KEY).write_bytes(new_key)
        wait_until(lambda: shown(port) == new, "the renewed certificate to be shown", SECONDS)

    while_listening(tmp_path, port, renew)
