"""Sources in a bucket of an S3 service: what lies there, and its objects; failures speak of the source, not a store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.proxies import PROXY_HINT
from tunesmith.resolve.failures import absent
from tunesmith.resolve.uri import Source
from tunesmith.store import NotFoundInStoreError, open_store
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ResolvedFile
from tunesmith_api.stages import StoreLocation

# What a failure of the service is called where it is asked for a source.
_OF_A_SOURCE = {
    FailureClass.STORE_UNAVAILABLE: FailureClass.SOURCE_UNAVAILABLE,
    FailureClass.STORE_FULL: FailureClass.SOURCE_UNAVAILABLE,
    FailureClass.ARTIFACT_CORRUPT: FailureClass.SOURCE_UNAVAILABLE,
}
_HINTS = {
    FailureClass.SOURCE_UNAVAILABLE: "Check the source's endpoint, and that it is reached from here; the authority of "
    "a certificate of its own belongs into the source's Secret as 'ca.crt'.",
    FailureClass.SECRET_MISSING: "Name a Secret with accessKey and secretKey in the source's secretRef, and have it in "
    "the job's namespace; on this machine AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY do too.",
}


def list_bucket(source: Source, location: StoreLocation, secrets: Path | None) -> tuple[tuple[ResolvedFile, ...], bool]:
    """The object that a source names and True, or all below it and False; `SourceAbsent` if there is none."""
    name = source.path.rstrip("/")
    with _told_of(source):
        store = open_store(location, secrets)
        named = store.stat(name)
        found = list(store.list(name)) if named is None else [named]
    if not found:
        raise absent(f"{source.uri}: there is no such object and nothing below it")
    files = tuple(
        ResolvedFile(
            path=Path(name).name if named else item.name.removeprefix(name + "/"),
            size=item.size,
            # S3's own identity of a version without versioning: when it was written. A later write is another source.
            digest=f"modified:{item.modified.isoformat()}",
        )
        for item in sorted(found, key=lambda item: item.name)
    )
    return files, named is not None


def fetch_object(
    source: Source, file: ResolvedFile, target: Path, location: StoreLocation, secrets: Path | None
) -> None:
    """Bring one object of a listed source to `target`, which appears only when whole."""
    name = source.path.rstrip("/")
    with _told_of(source):
        store = open_store(location, secrets)
        single = Path(name).name == file.path and store.stat(name) is not None
        store.get_file(name if single else f"{name}/{file.path}", target)


@contextmanager
def _told_of(source: Source) -> Iterator[None]:
    if not source.path.strip("/"):
        raise StageFailure(FailureClass.SPEC_INVALID, f"{source.uri} names a bucket alone", "Use s3://bucket/key.")
    try:
        yield
    except NotFoundInStoreError as error:
        raise absent(f"{source.uri}: {error}") from error
    except StageFailure as error:
        failure = _OF_A_SOURCE.get(error.failure, error.failure)
        message = error.message.replace("the store's Secret", "the Secret").replace("the store ", "")
        # The S3 SDK's error below: a bucket that the service does not know is a wrong address, not an absent service.
        if getattr(error.__cause__, "code", None) == "NoSuchBucket":
            raise absent(f"{source.uri}: {message}", "Check the bucket's name.") from error
        # A proxy is the same for both.
        hint = error.hint if error.hint == PROXY_HINT else _HINTS.get(failure, error.hint)
        raise StageFailure(failure, f"{source.uri}: {message}", hint) from error
