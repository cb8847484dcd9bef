"""Between the operator and the API server: everything is forwarded, and the operator is killed at the writes asked for.

Before a write is forwarded, or after the API server has done it and before the operator is told. Watches can fall
silent, as behind a firewall that has forgotten a connection.
"""

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from support.control_plane import ControlPlane
from support.servers import free_ports

_WRITES = ("POST", "PUT", "PATCH", "DELETE")
# Of one connection only, and those that the client or the proxy sets itself (RFC 9110, 7.6.1).
_NOT_PASSED_ON = {"connection", "host", "transfer-encoding", "content-length", "content-encoding", "accept-encoding"}
_BODY_BYTES = 16 << 20


class Cut(StrEnum):
    """Where a write is cut off."""

    BEFORE = "before"
    AFTER = "after"


@dataclass
class ApiProxy:
    """`cut` says of the write with this number, from 0, where it is cut off; `victim` is killed there.

    `writes` are the requests that were made so far, `watching` is the number of watches that are open; `silenced` says
    how often `silence` was called.
    """

    plane: ControlPlane
    kubeconfig: Path
    cut: Callable[[int], Cut | None] = lambda _: None
    victim: "subprocess.Popen[bytes] | None" = None
    writes: list[str] = field(default_factory=list)
    watching: int = 0
    silenced: int = 0

    def silence(self) -> None:
        """Nothing more comes of the watches that are open now, and nobody is told so; new ones are as ever."""
        self.silenced += 1

    async def handle(self, session: aiohttp.ClientSession, request: web.Request) -> web.StreamResponse:
        """One request, there and back."""
        where = self._cut(request)
        body = await request.read()
        if where is Cut.BEFORE:
            return self._killed(request)
        headers = _passed_on(request.headers)
        url = f"{self.plane.url}{request.raw_path}"
        async with session.request(request.method, url, data=body or None, headers=headers) as answer:
            if where is Cut.AFTER:
                await answer.read()
                return self._killed(request)
            told = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
            await told.prepare(request)
            watch = request.query.get("watch") == "true"
            began = self.silenced
            self.watching += watch
            try:
                # An operator that was killed reads no more.
                with suppress(ConnectionError):
                    async for chunk in answer.content.iter_any():
                        if not watch or began == self.silenced:
                            await told.write(chunk)
                    await told.write_eof()
            finally:
                self.watching -= watch
            return told

    def _cut(self, request: web.Request) -> Cut | None:
        # A review of rights changes nothing.
        if request.method not in _WRITES or request.path.startswith("/apis/authorization.k8s.io/"):
            return None
        self.writes.append(f"{request.method} {request.path}")
        return self.cut(len(self.writes) - 1)

    def _killed(self, request: web.Request) -> web.Response:
        assert self.victim is not None
        self.victim.kill()
        self.victim.wait()
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON}


@contextmanager
def proxied(plane: ControlPlane, folder: Path) -> Iterator[ApiProxy]:
    """A proxy in a thread of its own, and a kubeconfig that leads through it."""
    (port,) = free_ports(1)
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    proxy = ApiProxy(plane, folder / "kubeconfig")
    serving: Future[Callable[[], object]] = Future()

    async def serve() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=plane.authority), limit=0)
        waiting = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=waiting, auto_decompress=False) as session:
            app = web.Application(client_max_size=_BODY_BYTES)

            async def handle(request: web.Request) -> web.StreamResponse:
                return await proxy.handle(session, request)

            app.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(app, shutdown_timeout=1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            serving.set_result(lambda: loop.call_soon_threadsafe(ended.set))
            await ended.wait()
            await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    end = serving.result(60)
    try:
        yield proxy
    finally:
        end()
        thread.join(60)
