"""Garbage collection: a namespace of a store goes in, what nothing needs goes out of it and is listed."""

from dataclasses import dataclass, replace
from datetime import datetime

from tunesmith.store.artifacts import checked_namespace
from tunesmith.store.folders import in_parallel
from tunesmith.store.manifests import Manifest, read_manifest
from tunesmith.store.protocol import NotFoundInStoreError, Store, StoredObject
from tunesmith.store.reachable import UNREFERENCED_FOR, Artifact, Roots, published_prefixes, unreachable
from tunesmith.store.runs import read_runs
from tunesmith.store.verified import VerifiedFiles
from tunesmith_api.failures import FailureClass, StageFailure

_MANIFEST_PARTS = 4  # artifacts/<kind>/<key>/manifest.json


@dataclass(frozen=True, slots=True)
class Swept:
    """What gc removed (or would): names below the namespace, with their sizes."""

    removed: tuple[StoredObject, ...]

    @property
    def removed_bytes(self) -> int:
        return sum(item.size for item in self.removed)


def sweep(store: Store, namespace: str, now: datetime, *, dry_run: bool) -> Swept:
    """Mark from what is published and from runs, and remove the rest (contract 4); `now` is in UTC.

    Killed at any moment it leaves no artifact without its files: manifests go first. Whatever cannot be read for
    another reason than being absent or broken ends the sweep before anything is removed.
    """
    at = checked_namespace(namespace)
    objects = [replace(item, name=item.name.removeprefix(f"{at}/")) for item in store.list(at)]
    manifests = _manifests(store, at, objects)
    # Read last: a run that began while we looked has named by now what it found.
    runs = {name.removeprefix(f"{at}/"): run for name, run in read_runs(store, at).items()}
    removed = unreachable(objects, manifests, Roots(published_prefixes(objects), runs), now)
    if not dry_run:
        _remove(store, at, removed)
    partial = tuple(store.sweep_partial(now - UNREFERENCED_FOR, dry_run=dry_run))
    return Swept((*removed, *partial))


def _manifests(store: Store, at: str, objects: list[StoredObject]) -> dict[Artifact, Manifest]:
    def read(artifact: Artifact) -> Manifest | None:
        kind, key = artifact
        name = f"{at}/artifacts/{kind}/{key}/manifest.json"
        try:
            return read_manifest(store.read_bytes(name), name)
        except NotFoundInStoreError:
            return None
        except StageFailure as error:
            if error.failure is FailureClass.ARTIFACT_CORRUPT:
                return None
            raise

    parts = [item.name.split("/") for item in objects]
    found = [(p[1], p[2]) for p in parts if p[0] == "artifacts" and len(p) == _MANIFEST_PARTS]
    read_ones = zip(found, in_parallel(read, found), strict=True)
    return {artifact: manifest for artifact, manifest in read_ones if manifest is not None}


def _remove(store: Store, at: str, removed: list[StoredObject]) -> None:
    manifests = [f"{at}/{item.name}" for item in removed if item.name.endswith("/manifest.json")]
    rest = [f"{at}/{item.name}" for item in removed if not item.name.endswith("/manifest.json")]
    in_parallel(store.delete, manifests)
    in_parallel(store.delete, rest)
    if (root := store.local_path(at)) is not None:
        VerifiedFiles(root).compact()
