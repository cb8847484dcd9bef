"""``python -m tunesmith_operator``: the operator, until SIGTERM."""

import argparse
import asyncio
import contextlib
import logging
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed lacks it

import kopf
import yaml
from kopf._core.engines.peering import Identity
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from tunesmith_api.stages import ProgressEndpoint
from tunesmith_operator import watching
from tunesmith_operator.building import Builder
from tunesmith_operator.cache import Cache
from tunesmith_operator.delivering import Deliveries, Sink
from tunesmith_operator.file_metrics import FileMetrics
from tunesmith_operator.filling import fill, look_through
from tunesmith_operator.fold import Rules
from tunesmith_operator.freshness import Freshness
from tunesmith_operator.job_metrics import CensusMetrics
from tunesmith_operator.kube import Kube
from tunesmith_operator.listening import Listener
from tunesmith_operator.loop import Operator
from tunesmith_operator.own_metrics import StateMetrics
from tunesmith_operator.pod import TOKEN_FILE, TOKEN_FOLDER
from tunesmith_operator.serving import Server
from tunesmith_operator.settings import OperatorSettings
from tunesmith_operator.tokens import Tokens
from tunesmith_operator.turns import Turns

# Passes at a time: more bring nothing (measured, 16 to 64), fewer let a slow answer of the API server hold others up.
_WORKERS = 32
# Connections beside the workers': for lists at the start.
_MORE_CONNECTIONS = 16


def main() -> None:
    """Read the settings and run."""
    parser = argparse.ArgumentParser(prog="tunesmith-operator", description=main.__doc__)
    parser.add_argument("--config", type=Path, help="the operator's settings, a YAML file")
    parser.add_argument("--namespace", action="append", default=[], help="watch only this one (may be repeated)")
    call = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # It tells of each event that it has handed over.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    text = call.config.read_text() if call.config else "{}"
    settings = OperatorSettings.model_validate(yaml.safe_load(text) or {})
    asyncio.run(operate(settings, tuple(call.namespace)))


async def operate(settings: OperatorSettings, namespaces: tuple[str, ...]) -> None:
    """Fill the cache, then watch and make passes until cancelled."""
    configuration = Configuration()
    await config.load_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    configuration.connection_pool_maxsize = _WORKERS + _MORE_CONNECTIONS
    async with ApiClient(configuration) as client:
        rules = Rules(settings, Builder(settings, _endpoint(settings)).job)
        freshness = Freshness(namespaced=bool(namespaces))
        listening = None if settings.progress.url is None else datetime.now(UTC)
        deliveries = _deliveries(settings, listening)
        operator = Operator(Cache(), Turns(), Kube(client), rules, deliveries=deliveries, freshness=freshness)
        await fill(operator, namespaces)
        workers = [asyncio.create_task(operator.work()) for _ in range(_WORKERS)]
        workers.append(asyncio.create_task(look_through(operator, namespaces)))
        try:
            async with _serving(operator, settings, listening), _listening(operator, settings):
                await kopf.operator(
                    registry=watching.registry_of(operator.cache, operator.turns, operator.freshness),
                    settings=watching.settings_of(),
                    standalone=True,
                    # Else kopf asks the system for the user's name, and the user of a pod has none.
                    identity=Identity("tunesmith"),
                    clusterwide=not namespaces,
                    namespaces=namespaces,
                )
        finally:
            for worker in workers:
                worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*workers)


def _endpoint(settings: OperatorSettings) -> ProgressEndpoint | None:
    """What pods are told of where they may post; the authority's certificate is no secret."""
    told = settings.progress
    if told.url is None:
        return None
    authority = None if told.certificates is None else Path(told.certificates) / "ca.crt"
    certificate = authority.read_text() if authority is not None and authority.exists() else None
    return ProgressEndpoint(url=told.url, ca_certificate=certificate, token_file=f"{TOKEN_FOLDER}/{TOKEN_FILE}")


def _deliveries(settings: OperatorSettings, listening: datetime | None) -> Deliveries:
    told, network = settings.notifications, settings.network
    if told is None:
        return Deliveries()
    key = None if told.key_file is None else Path(told.key_file)
    proxy = network.https_proxy if told.url.startswith("https:") else network.http_proxy
    if proxy_bypass_environment(urlsplit(told.url).netloc, {"no": network.no_proxy or ""}):
        proxy = None
    return Deliveries(Sink(told.url, key, proxy), timedelta(seconds=told.stuck_seconds), listening)


def _serving(
    operator: Operator, settings: OperatorSettings, listening: datetime | None
) -> AbstractAsyncContextManager[None]:
    registry = operator.metrics.registry
    registry.register(CensusMetrics(operator.cache, operator.clock, listening))
    registry.register(StateMetrics(operator.turns, operator.kube, operator.freshness, operator.deliveries))
    if settings.file_metrics:
        registry.register(FileMetrics(operator.cache))
    return Server(registry, operator.freshness).serving(settings.metrics_port)


def _listening(operator: Operator, settings: OperatorSettings) -> AbstractAsyncContextManager[None]:
    if settings.progress.url is None:
        return contextlib.nullcontext()
    folder = settings.progress.certificates
    listener = Listener(operator.cache, operator.turns, Tokens(operator.kube.signing_keys))
    return listener.listening(settings.progress.port, None if folder is None else Path(folder))


if __name__ == "__main__":
    main()
