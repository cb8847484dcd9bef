"""A job's store, from where a person is: the way to it and the credentials are this machine's, not the pods'."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunesmith.cluster.problem import ClusterProblem, wrong
from tunesmith.cluster.seen import SeenJob
from tunesmith.proxies import PROXY_HINT
from tunesmith.resolve.uri import Scheme
from tunesmith.secrets import secrets_root
from tunesmith.store import Artifacts, open_store
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import StoreLocation


@dataclass(frozen=True, slots=True)
class StoreCall:
    """What a call says of the store: another address than the job's, and how its service is reached from here."""

    uri: str | None = None
    endpoint: str | None = None


def location_of_job(seen: SeenJob) -> StoreLocation:
    """Where a job's artifacts are; a `ClusterProblem` while nobody has said it."""
    if seen.store is None:
        raise ClusterProblem(
            f"the store of {seen.name} is not known yet: its manifest names none, and no operator has looked at it",
            "Wait for the operator, or name the store with --store.",
        )
    return seen.store


def named_location(call: StoreCall, namespace: str) -> StoreLocation:
    """The store that the call itself names."""
    return StoreLocation(uri=str(call.uri).rstrip("/"), namespace=namespace)


def reached(location: StoreLocation, endpoint: str | None, secrets: Path) -> StoreLocation:
    """The same store as it is reached from here.

    A Secret counts where a folder of its name is below `secrets`; without one the usual environment and files of S3 do.
    """
    return location.model_copy(
        update={
            "endpoint": endpoint or location.endpoint,
            "secret": _if_here(location.secret, secrets),
            "ca_secret": _if_here(location.ca_secret, secrets),
        }
    )


def artifacts_at(location: StoreLocation, endpoint: str | None) -> Artifacts:
    """The artifacts there; nothing is asked yet. Raises `SecretMissing`."""
    if not location.uri.startswith(f"{Scheme.S3}://"):
        raise wrong(f"the store {location.uri} is no S3 service: pods share no folder", "Name one: s3://bucket/prefix.")
    secrets = secrets_root()
    try:
        return Artifacts(open_store(reached(location, endpoint, secrets), secrets), location.namespace)
    except StageFailure as error:
        if error.failure is not FailureClass.SECRET_MISSING or location.secret is None:
            raise
        folder = secrets / location.secret
        raise StageFailure(
            error.failure,
            f"this machine has no credentials for the store {location.uri}",
            f"Make the folder {folder} with the files accessKey and secretKey, or set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY.",
        ) from error


@contextmanager
def told_of_reach(endpoint: str | None) -> Iterator[None]:
    """A service that does not answer may be one that only pods reach: what helps is said with it."""
    try:
        yield
    except StageFailure as error:
        if error.failure is not FailureClass.STORE_UNAVAILABLE or endpoint is not None:
            raise
        hint = "If only pods reach it, forward a port (kubectl port-forward) and name it: --store-endpoint URL."
        if error.hint == PROXY_HINT:
            hint = f"{PROXY_HINT} {hint}"
        raise StageFailure(error.failure, error.message, hint) from error


def _if_here(secret: str | None, secrets: Path) -> str | None:
    return secret if secret is not None and (secrets / secret).is_dir() else None
