"""The server for whoever watches the operator: Prometheus, and the kubelet's probes."""

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

from tunesmith_operator.freshness import Freshness

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """Answers on one port without a password: what it tells names no job."""

    registry: CollectorRegistry
    freshness: Freshness

    async def healthy(self, _: web.Request) -> web.Response:
        """200 from the loop that makes passes; 503 and which, where a watch is to be taken for dead."""
        dead = self.freshness.dead()
        if not dead:
            return web.Response()
        log.error("no watch tells of %s any more: the operator asks to be started again", " or of ".join(dead))
        return web.Response(status=503, text=f"dead watches: {', '.join(dead)}")

    @contextlib.asynccontextmanager
    async def serving(self, port: int) -> AsyncIterator[None]:
        """Within it /metrics and /healthz answer by plain HTTP."""
        app = web.Application()
        app.router.add_get("/metrics", make_aiohttp_handler(self.registry))
        app.router.add_get("/healthz", self.healthy)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, port=port).start()
        log.info("metrics are served on port %d", port)
        try:
            yield
        finally:
            await runner.cleanup()
