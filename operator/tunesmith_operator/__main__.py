"""``python -m tunesmith_operator``: the operator, until SIGTERM."""

import argparse
import asyncio
import contextlib
import logging
from pathlib import Path

import kopf
import yaml
from kopf._core.engines.peering import Identity
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from tunesmith_operator import watching
from tunesmith_operator.building import Builder
from tunesmith_operator.cache import Cache
from tunesmith_operator.fold import Rules
from tunesmith_operator.kube import JOBS, OBJECTS, PODS, Kube
from tunesmith_operator.loop import Operator
from tunesmith_operator.names import JOB_LABEL
from tunesmith_operator.settings import OperatorSettings
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
    text = call.config.read_text() if call.config else "{}"
    settings = OperatorSettings.model_validate(yaml.safe_load(text) or {})
    asyncio.run(operate(settings, tuple(call.namespace)))


async def operate(settings: OperatorSettings, namespaces: tuple[str, ...]) -> None:
    """Fill the cache, then watch and make passes until cancelled."""
    configuration = Configuration()
    await config.load_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    configuration.connection_pool_maxsize = _WORKERS + _MORE_CONNECTIONS
    async with ApiClient(configuration) as client:
        rules = Rules(settings, Builder(settings).job)
        operator = Operator(Cache(), Turns(), Kube(client), rules)
        await fill(operator, namespaces)
        workers = [asyncio.create_task(operator.work()) for _ in range(_WORKERS)]
        try:
            await kopf.operator(
                registry=watching.registry_of(operator.cache, operator.turns),
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


async def fill(operator: Operator, namespaces: tuple[str, ...]) -> None:
    """What belongs to jobs first, then the jobs: none is looked at before all that it has is known."""
    cache = operator.cache
    for path, label, see in ((PODS, JOB_LABEL, cache.see_pod), (JOBS, JOB_LABEL, cache.see_job)):
        async for body in operator.kube.list_everywhere(path, namespaces, label):
            see(body)
    async for body in operator.kube.list_everywhere(OBJECTS, namespaces):
        key = cache.see_object(body)
        if key is not None:
            operator.turns.add(key, first=not cache.has_jobs(key))


if __name__ == "__main__":
    main()
