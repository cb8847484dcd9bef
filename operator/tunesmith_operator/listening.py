"""The server that stages' pods post their progress to (contract 11); what it hears goes into the cache."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import ClientError, web

from tunesmith_api.progress import BODY_BYTES, parse_report
from tunesmith_operator.cache import Cache
from tunesmith_operator.kube import Absent, Refused
from tunesmith_operator.progressing import WRITE_EVERY
from tunesmith_operator.tokens import Tokens
from tunesmith_operator.turns import Turns
from tunesmith_operator.world import Heard

log = logging.getLogger(__name__)

CERTIFICATE, KEY = "tls.crt", "tls.key"
# How often it is looked whether a certificate was renewed (seconds): the kubelet takes a minute or so to bring it.
_LOOK_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class Listener:
    """Takes reports of pods that the cache knows, and gives their jobs a turn."""

    cache: Cache
    turns: Turns
    tokens: Tokens

    async def post(self, request: web.Request) -> web.Response:
        """200 if it was a report of a pod of ours, 400 if it was none, 401 if it came from elsewhere.

        503 while the API server does not tell whose tokens are good.
        """
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            pod = await self.tokens.pod_of(token)
        except (Absent, Refused, ClientError, TimeoutError) as error:
            log.warning("the API server does not tell its keys: %s", error)
            return web.Response(status=503)
        if pod is None:
            return web.Response(status=401)
        report = parse_report(pod.name, await request.read())
        if report is None:
            return web.Response(status=400)
        now = datetime.now(UTC)
        earlier = self.cache.heard.get((pod.namespace, pod.name))
        owner = self.cache.see_report((pod.namespace, pod.name), pod.uid, Heard(report, now))
        if owner is None:
            return web.Response(status=401)
        # Nothing would be written sooner: a pass for each report of each pod would only cost.
        if earlier is None:
            self.turns.add(owner)
        else:
            self.turns.add_at(owner, earlier.time + WRITE_EVERY, now)
        return web.Response()

    @contextlib.asynccontextmanager
    async def listening(
        self, port: int, certificates: Path | None, look_every: float = _LOOK_EVERY
    ) -> AsyncIterator[None]:
        """Within it reports are taken, by HTTPS where there is a folder with `tls.crt` and `tls.key`.

        It is looked `look_every` so many seconds whether these were renewed.
        """
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_post("/", self.post)
        # What reaches every pod of a cluster is no news each few seconds.
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        context = None if certificates is None else _context(certificates)
        await web.TCPSite(runner, port=port, ssl_context=context).start()
        log.info("progress is taken on port %d by %s", port, "HTTP" if context is None else "HTTPS")
        renewing = asyncio.create_task(_renew(context, certificates, look_every))
        try:
            yield
        finally:
            renewing.cancel()
            await runner.cleanup()


def _context(certificates: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / CERTIFICATE, certificates / KEY)
    return context


async def _renew(context: ssl.SSLContext | None, certificates: Path | None, look_every: float) -> None:
    """New connections are made with the certificate that is there now."""
    if context is None or certificates is None:
        return
    known = (certificates / CERTIFICATE).read_bytes()
    while True:
        await asyncio.sleep(look_every)
        try:
            now = (certificates / CERTIFICATE).read_bytes()
            if now != known:
                # First aside: one that does not belong to its key would leave the server with neither.
                _context(certificates)
                context.load_cert_chain(certificates / CERTIFICATE, certificates / KEY)
                known = now
                log.info("the certificate was renewed")
        except OSError as error:  # ssl.SSLError is one
            log.warning("the renewed certificate cannot be used: %s", error)
