"""The one place that knows kopf: its watches feed the cache, and nothing else of it is used.

Its low-level events carry no state and write nothing (kopf's documentation, critiques and reconciliation, advises them
for what is level-triggered). The settings are those that were measured in a loop of this kind: an index is quadratic in
the number of objects at the start, and the default storages cost half of the start's time.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import kopf
from kopf import DiffBaseStorage, ProgressStorage

from tunesmith_api.names import JOB_LABEL
from tunesmith_operator.cache import Cache, Key
from tunesmith_operator.excerpts import version_of
from tunesmith_operator.freshness import Freshness
from tunesmith_operator.turns import Turns

OBJECTS = ("tunesmith.dev", "v1alpha1", "finetunejobs")
JOBS = ("batch", "v1", "jobs")
PODS = ("", "v1", "pods")

# Objects per page of kopf's own first list.
_CHUNK = 200
# A watch ends after so long, and is taken for dead when nothing, not even a bookmark, has come for so long (seconds;
# the API server sends a bookmark a minute).
# The first goes to the API server as it is, which takes whole numbers only.
_SERVER_TIMEOUT, _INACTIVITY_TIMEOUT, _CONNECT_TIMEOUT = 300, 90.0, 10.0
# The pod is given 30 seconds to end (Kubernetes' default).
_EXIT_TIMEOUT = 25.0


class NoDiffBase(DiffBaseStorage):
    """Nothing is compared with what was handled before: decisions are made from what is."""

    def fetch(self, *, body: Any) -> None:
        del body

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        del body, patch, essence


class NoProgress(ProgressStorage):
    """No handler has progress that would have to be kept."""

    def fetch(self, *, key: Any, body: Any) -> None:
        del key, body

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        del key, record, body, patch

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        del key, body, patch

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        del body, patch, value

    def clear(self, *, essence: Any) -> Any:
        return essence


def settings_of() -> kopf.OperatorSettings:
    """kopf's settings for an operator that only watches with it."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.watching.chunk_size = _CHUNK
    settings.watching.server_timeout = _SERVER_TIMEOUT
    settings.watching.inactivity_timeout = _INACTIVITY_TIMEOUT
    settings.watching.connect_timeout = _CONNECT_TIMEOUT
    for resource in (JOBS, PODS):
        settings.watching.label_selectors[resource] = JOB_LABEL
    settings.queueing.idle_timeout = 0.005  # 0 spins
    settings.queueing.worker_limit = 64
    settings.process.ultimate_exiting_timeout = _EXIT_TIMEOUT
    return settings


See = Callable[..., Key | None]


def registry_of(cache: Cache, turns: Turns, freshness: Freshness) -> kopf.OperatorRegistry:
    """Handlers that put what they are told into the cache, and give whom it concerns a turn."""
    registry = kopf.OperatorRegistry()

    # A registry of one's own has none. Asked again when the API server no longer takes a token (a pod's is rotated).
    @kopf.on.login(registry=registry, id="login")
    def login(**known: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**known) or kopf.login_with_kubeconfig(**known)

    def watch(resource: tuple[str, str, str], see: See, **only: Any) -> None:
        @kopf.on.event(*resource, registry=registry, id=resource[-1], **only)
        async def seen(event: Mapping[str, Any], **_: object) -> None:
            body = event["object"]
            key = see(body, gone=event["type"] == "DELETED")
            freshness.told(resource[-1], body["metadata"]["namespace"], version_of(body), datetime.now(UTC))
            if key is not None:
                turns.add(key, first=resource is OBJECTS and not cache.has_jobs(key))

    labelled = {"labels": {JOB_LABEL: kopf.PRESENT}}
    watch(OBJECTS, cache.see_object)
    watch(JOBS, cache.see_job, **labelled)
    watch(PODS, cache.see_pod, **labelled)
    return registry
