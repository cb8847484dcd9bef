"""Where artifacts live: a location and a secret folder go in, a store comes out."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from tunesmith.store.artifacts import Artifacts
from tunesmith.store.folder import FolderStore
from tunesmith.store.manifests import InputReference, Manifest
from tunesmith.store.protocol import FileEntry, NotFoundInStoreError, Store, StoredObject
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import StoreLocation

__all__ = [
    "Artifacts",
    "FileEntry",
    "FolderStore",
    "InputReference",
    "Manifest",
    "NotFoundInStoreError",
    "Store",
    "StoredObject",
    "open_store",
]


def open_store(location: StoreLocation, secrets: Path | None = None) -> Store:
    """The store at ``s3://bucket/prefix``, ``file:///path`` or a plain path; nothing is contacted yet.

    `secrets` is the folder that holds one folder per Secret; `location.secret` names the one of this store.
    Raises `SpecInvalid` for another kind of address, `SecretMissing` if the named Secret is not there.
    """
    parts = urlsplit(location.uri)
    match parts.scheme:
        case "s3":
            from tunesmith.store.s3 import open_s3

            return open_s3(location, secrets)
        case "file" if parts.netloc in {"", "localhost"} and parts.path.startswith("/"):
            return FolderStore(Path(unquote(parts.path)))
        case "" if location.uri:
            return FolderStore(Path(location.uri))
    raise StageFailure(
        FailureClass.SPEC_INVALID,
        f"the store {location.uri[:200]!r} is no address that Tunesmith knows",
        "Use s3://bucket/prefix, file:///path or a path.",
    )
