"""A source becomes the list of its files, pinned; and the files of a list are fetched: one module for all schemes."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.resolve import hub, web
from tunesmith.resolve.digests import file_digest
from tunesmith.resolve.uri import Scheme, Source, local_path
from tunesmith.store import open_store
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ResolvedFile
from tunesmith_api.stages import StoreLocation


@dataclass(frozen=True, slots=True)
class Access:
    """How sources are reached: the folder that relative file paths start from, Secrets, and the S3 service."""

    base: Path
    secrets: Path | None = None
    secret: str | None = None
    endpoint: str | None = None
    region: str | None = None
    ca_secret: str | None = None

    @property
    def folder(self) -> Path | None:
        """The folder of the named Secret."""
        return None if self.secrets is None or self.secret is None else self.secrets / self.secret


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a ``model`` or ``dataset`` with what pins them: a commit of a hub, and a digest for each file."""

    kind: str
    revision: str | None
    files: tuple[ResolvedFile, ...]
    license: str | None = None


def list_source(source: Source, kind: str, revision: str | None, access: Access) -> Listing:
    """What a source holds. `kind` is ``model`` or ``dataset``; raises `SourceUnavailable`, `AccessDenied`."""
    if source.scheme is Scheme.HF:
        found = hub.list_repository(source.place, kind, revision, access.folder)
        return Listing(kind, *found)
    if source.scheme is Scheme.S3:
        return Listing(kind, None, _list_bucket(source, access))
    if source.scheme is Scheme.HTTPS:
        return Listing(kind, None, (web.describe(source.uri, access.folder),))
    if source.scheme is Scheme.PVC:
        message = f"{source.uri} names a claim of a cluster, which is not mounted here"
        raise StageFailure(FailureClass.SPEC_INVALID, message, "On one machine use a file:// source.")
    return Listing(kind, None, _list_disk(source, access.base))


def fetch(source: Source, listing: Listing, wanted: Sequence[ResolvedFile], into: Path, access: Access) -> None:
    """Bring `wanted` of a listed source into the folder `into`, under their paths; local files are linked."""
    into.mkdir(parents=True, exist_ok=True)
    if source.scheme is Scheme.HF:
        at = hub.Commit(source.place, listing.kind, listing.revision or "main")
        hub.download(at, wanted, into, access.folder)
        return
    for file in wanted:
        target = into / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.scheme is Scheme.S3:
            _fetch_object(source, file, target, access)
        elif source.scheme is Scheme.HTTPS:
            web.download(source.uri, target, access.folder)
        else:
            target.unlink(missing_ok=True)
            target.symlink_to(_on_disk(source, file, access.base).resolve())


def matching(files: Sequence[ResolvedFile], patterns: Sequence[str]) -> tuple[ResolvedFile, ...]:
    """The files at the top of a source whose names match one of the shell patterns."""
    return tuple(file for file in files if any(fnmatch.fnmatchcase(file.path, pattern) for pattern in patterns))


def _on_disk(source: Source, file: ResolvedFile, base: Path) -> Path:
    path = local_path(source, base)
    return path / file.path if path.is_dir() else path


def _list_disk(source: Source, base: Path) -> tuple[ResolvedFile, ...]:
    path = local_path(source, base)
    if path.is_file():
        return (ResolvedFile(path=path.name, size=path.stat().st_size, digest=file_digest(path)),)
    if not path.is_dir():
        raise StageFailure(FailureClass.SOURCE_UNAVAILABLE, f"{source.uri}: there is no file or folder {path}")
    return tuple(
        ResolvedFile(path=file.relative_to(path).as_posix(), size=file.stat().st_size, digest=file_digest(file))
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )


def _bucket(source: Source, access: Access) -> StoreLocation:
    return StoreLocation(
        uri=f"s3://{source.place}",
        endpoint=access.endpoint,
        region=access.region,
        secret=access.secret,
        ca_secret=access.ca_secret,
    )


def _list_bucket(source: Source, access: Access) -> tuple[ResolvedFile, ...]:
    store = open_store(_bucket(source, access), access.secrets)
    name = source.path.rstrip("/")
    found = [stat] if (stat := store.stat(name)) else list(store.list(name))
    if not found:
        raise StageFailure(
            FailureClass.SOURCE_UNAVAILABLE, f"{source.uri}: there is no such object and nothing below it"
        )
    single = len(found) == 1 and found[0].name == name
    return tuple(
        ResolvedFile(
            path=Path(name).name if single else item.name.removeprefix(name + "/"),
            size=item.size,
            # S3's own identity of a version without versioning: when it was written. A later write is another source.
            digest=f"modified:{item.modified.isoformat()}",
        )
        for item in sorted(found, key=lambda item: item.name)
    )


def _fetch_object(source: Source, file: ResolvedFile, target: Path, access: Access) -> None:
    store = open_store(_bucket(source, access), access.secrets)
    name = source.path.rstrip("/")
    single = Path(name).name == file.path and store.stat(name) is not None
    store.get_file(name if single else f"{name}/{file.path}", target)
