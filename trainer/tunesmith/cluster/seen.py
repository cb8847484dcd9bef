"""A FineTuneJob as the API server sends it becomes what the commands read of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tunesmith.cluster.problem import ClusterProblem
from tunesmith_api.names import RETRY_ANNOTATION
from tunesmith_api.stages import StoreLocation
from tunesmith_api.status import JobStatus, Phase


@dataclass(frozen=True, slots=True)
class SeenJob:
    """A job of a cluster; `retry` is the last retry that was asked for, `store` is None while it is not known."""

    name: str
    namespace: str
    uid: str
    version: str
    generation: int
    retry: str
    status: JobStatus
    store: StoreLocation | None

    @property
    def untouched(self) -> bool:
        """Whether no operator has looked at it yet."""
        return (self.status.observed_generation or 0) < 1

    @property
    def settled(self) -> bool:
        """Whether it is over: complete or failed, with the spec and the retry that it has now."""
        status = self.status
        heeded = (status.observed_generation or 0) >= self.generation and status.retried == self.retry
        return heeded and status.phase in (Phase.COMPLETE, Phase.FAILED)

    @property
    def failed(self) -> bool:
        """Whether it has failed, for good until somebody changes or retries it."""
        return self.status.phase is Phase.FAILED


def seen_job(body: Mapping[str, Any]) -> SeenJob:
    """The job; a `ClusterProblem` where another version has written a status that this one cannot read."""
    meta, spec = body["metadata"], body.get("spec") or {}
    try:
        status = JobStatus.model_validate(body.get("status") or {})
    except ValidationError as error:
        message = f"the status of {meta['name']} cannot be read: another version has written it ({error.title})"
        raise ClusterProblem(message, "Use the version of tunesmith that the operator has.") from error
    return SeenJob(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        version=meta["resourceVersion"],
        generation=int(meta.get("generation", 1)),
        retry=(meta.get("annotations") or {}).get(RETRY_ANNOTATION, ""),
        status=status,
        store=_location(status, spec.get("store"), meta["namespace"]),
    )


def _location(status: JobStatus, store: Mapping[str, Any] | None, namespace: str) -> StoreLocation | None:
    """As the operator recorded it, else as the spec has it, which is then all there is to know."""
    if status.store is not None:
        return StoreLocation(**status.store.model_dump(), namespace=namespace)
    if store is None:
        return None
    return StoreLocation(
        uri=store["uri"],
        endpoint=store.get("endpoint"),
        region=store.get("region"),
        secret=(store.get("secretRef") or {}).get("name"),
        ca_secret=(store.get("caSecretRef") or {}).get("name"),
        namespace=namespace,
    )
