"""What is published: files of artifacts go in under a job's name, and lie in one readable folder of the store."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tunesmith.published_names import OWN_FOLDER
from tunesmith.store.artifacts import Artifacts
from tunesmith.store.folders import in_parallel
from tunesmith.store.local_files import put_copy, sync_folder
from tunesmith.store.manifests import Manifest
from tunesmith.store.protocol import FileEntry, NotFoundInStoreError, StoredObject, check_name
from tunesmith.store.verified import VerifiedFiles
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.schema import Recorded

# How much of publish's key names the folder (contract 3): 48 bits, for people to tell versions apart.
KEY_DIGITS = 12
_PUBLISH_AGAIN = "A change of spec.gates or spec.publish publishes anew, into another folder; then fetch again."


@dataclass(frozen=True, slots=True)
class Source:
    """One file of an artifact."""

    manifest: Manifest
    path: str


class Published(Recorded):
    """``published/<job>/latest.json``: which publication is the newest, and its files with their digests."""

    job: str
    key: str
    files: tuple[FileEntry, ...]


def publish(artifacts: Artifacts, job: str, key: str, files: Mapping[str, Source]) -> Published:
    """Copy files (path -> source) to ``published/<job>/<first 12 of key>/``, then point latest.json there.

    The service copies; nothing passes this machine. A copy that is there already and not older than its source
    is left alone, so that publishing again costs one look per file.
    """
    store = artifacts.store
    at = f"{artifacts.namespace}/published/{job}"

    def put(item: tuple[str, Source]) -> FileEntry:
        path, source = item
        entry = source.manifest.entry(source.path)
        _copy(artifacts, source, entry, f"{at}/{key[:KEY_DIGITS]}/{path}")
        return entry.model_copy(update={"path": path})

    entries = in_parallel(put, sorted(files.items(), key=lambda item: item[0]))
    published = Published(job=job, key=key, files=tuple(entries))
    store.put_bytes((json.dumps(published.to_json_dict(), indent=1) + "\n").encode(), f"{at}/latest.json")
    return published


def latest(artifacts: Artifacts, job: str) -> Published | None:
    """What was published last under a job's name; `ArtifactCorrupt` where that cannot be read, or leads elsewhere."""
    name = f"{artifacts.namespace}/published/{job}/latest.json"
    try:
        found = Published.model_validate_json(artifacts.store.read_bytes(name))
    except NotFoundInStoreError:
        return None
    except ValidationError as error:
        raise StageFailure(FailureClass.ARTIFACT_CORRUPT, f"{name} in the store is no list of files") from error
    for entry in found.files:
        _check_path(entry.path, name)
    return found


def bring_published(artifacts: Artifacts, published: Published, folder: Path) -> None:
    """Put the files of a published folder into a user's, each verified by its sha256, and as `export` does.

    Raises `DiskFull`, and `ArtifactCorrupt` for a file that is missing or another than was published.
    """
    at = f"{artifacts.namespace}/published/{published.job}/{published.key[:KEY_DIGITS]}"

    entries = {entry.path: entry for entry in published.files}

    def bring(path: str, target: Path) -> None:
        where = f"{path}, as it is published in the store,"
        try:
            artifacts.store.get_file(f"{at}/{path}", target, entries[path])
        except NotFoundInStoreError as error:
            raise StageFailure(FailureClass.ARTIFACT_CORRUPT, f"{where} is missing", _PUBLISH_AGAIN) from error
        except StageFailure as error:
            if error.failure is FailureClass.ARTIFACT_CORRUPT:
                raise StageFailure(error.failure, f"{where} is damaged: {error.message}", _PUBLISH_AGAIN) from error
            raise

    _fill(folder, entries, bring)


def export(artifacts: Artifacts, files: Mapping[str, Source], folder: Path) -> None:
    """Put files into a user's folder, verified, as copies that share blocks with the store where the disk can.

    A file that is there and right is left alone; ``.tunesmith/verified.jsonl`` remembers which were found right.
    Files wait in ``.tunesmith/partial/`` until they are whole; what a killed call left there goes first, so that one
    call at a time may fill a folder. Raises `DiskFull`, `ArtifactCorrupt`.
    """
    entries = {path: source.manifest.entry(source.path) for path, source in files.items()}
    _fill(folder, entries, lambda path, target: _bring(artifacts, files[path], entries[path], target))


def _fill(folder: Path, entries: Mapping[str, FileEntry], bring: Callable[[str, Path], None]) -> None:
    """Make a folder hold these files; `bring` makes one that is absent, or another, at the place that it is told."""
    verified = VerifiedFiles(folder, folder / OWN_FOLDER / "verified.jsonl")
    waiting = folder / OWN_FOLDER / "partial"
    shutil.rmtree(waiting, ignore_errors=True)

    def put(item: tuple[str, FileEntry]) -> None:
        path, entry = item
        target = folder / path
        if verified.holds(target, entry):
            return
        bring(path, waiting / path)
        target.parent.mkdir(parents=True, exist_ok=True)
        (waiting / path).replace(target)
        sync_folder(target.parent)
        verified.add(target, entry)

    in_parallel(put, entries.items())
    shutil.rmtree(waiting, ignore_errors=True)


def _check_path(path: str, where: str) -> None:
    """A list that somebody else has written leads nowhere else than into the folder that it is to fill."""
    try:
        check_name(path)
        outside = path.partition("/")[0] == OWN_FOLDER
    except StageFailure:
        outside = True
    if outside:
        raise StageFailure(FailureClass.ARTIFACT_CORRUPT, f"{where} in the store names a file {path[:80]!r}")


def _copy(artifacts: Artifacts, source: Source, entry: FileEntry, target: str) -> None:
    store, name = artifacts.store, artifacts.attempt_name(source.manifest, source.path)
    original = store.stat(name)
    if original is None:
        raise _damaged(source, "is missing")
    if not _is_copy(store.stat(target), original):
        store.copy(name, target)
    copied = store.stat(target)
    if copied is None or copied.size != entry.size:
        raise _damaged(source, "has another size")


def _bring(artifacts: Artifacts, source: Source, entry: FileEntry, target: Path) -> None:
    name = artifacts.attempt_name(source.manifest, source.path)
    in_place = artifacts.store.local_path(name)
    try:
        if in_place is not None and in_place.is_file():
            put_copy(in_place, target, entry)
        else:
            artifacts.store.get_file(name, target, entry)
    except NotFoundInStoreError as error:
        raise _damaged(source, "is missing") from error
    except StageFailure as error:
        if error.failure is FailureClass.ARTIFACT_CORRUPT:
            raise _damaged(source, "is damaged") from error
        raise


def _is_copy(copy: StoredObject | None, original: StoredObject) -> bool:
    """Younger than its source and as long: a source that was replaced since is younger than its old copy."""
    return copy is not None and copy.size == original.size and copy.modified > original.modified


def _damaged(source: Source, what: str) -> StageFailure:
    kind, key = source.manifest.kind, source.manifest.key
    message = f"{source.path} of the {kind} artifact {key[:12]} {what} in the store"
    return StageFailure(FailureClass.ARTIFACT_CORRUPT, message, artifact=(kind, key))
