"""A source becomes the list of its files, pinned; and the files of a list are fetched: one module for all schemes."""

import fnmatch
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.resolve import archives, buckets, hub, web
from tunesmith.resolve.digests import file_digest
from tunesmith.resolve.failures import absent
from tunesmith.resolve.uri import Scheme, Source, claim_path, local_path
from tunesmith.secrets import HUB_TOKEN, secret_key
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ResolvedFile
from tunesmith_api.stages import StoreLocation

# Whose models are read where they lie, an archive once it is unpacked.
_ON_DISK = (Scheme.FILE, Scheme.HTTPS, Scheme.PVC)


@dataclass(frozen=True, slots=True)
class Access:
    """How sources are reached: the folder that relative file paths start from, Secrets, and the S3 service.

    `store_secret` is that of the store, whose service it is: for its buckets where a source names no Secret itself.
    """

    base: Path
    secrets: Path | None = None
    secret: str | None = None
    endpoint: str | None = None
    region: str | None = None
    ca_secret: str | None = None
    store_secret: str | None = None

    @property
    def token(self) -> str | None:
        """The named Secret's token; `SecretMissing` where it is named and not there, never another one's rights."""
        return secret_key(self.secret, HUB_TOKEN, self.secrets)

    def bucket(self, source: Source) -> StoreLocation:
        """How the bucket of an ``s3://`` source is reached."""
        return StoreLocation(
            uri=f"s3://{source.place}",
            endpoint=self.endpoint,
            region=self.region,
            secret=self.secret or self.store_secret,
            ca_secret=self.ca_secret,
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a ``model`` or ``dataset`` with what pins them: a commit of a hub, and a digest for each file.

    `license` and `parameters` (of a model's safetensors) are what a hub says of them. `folder` is where the files lie
    already, on this machine. `single`: the source names a file, and no place that holds some.
    """

    kind: str
    revision: str | None
    files: tuple[ResolvedFile, ...]
    license: str | None = None
    parameters: int | None = None
    folder: Path | None = None
    single: bool = False


def list_source(source: Source, kind: str, revision: str | None, access: Access) -> Listing:
    """What a source holds. `kind` is ``model`` or ``dataset``.

    Raises `SourceUnavailable`, `SourceAbsent`, `AccessDenied`.
    """
    if source.scheme is Scheme.HF:
        found = hub.list_repository(source.place, kind, revision, access.token)
        return Listing(kind, found.revision, found.files, found.license, found.parameters)
    if source.scheme is Scheme.S3:
        objects, single = buckets.list_bucket(source, access.bucket(source), access.secrets)
        return Listing(kind, None, objects, single=single)
    if source.scheme is Scheme.HTTPS and kind == "dataset":
        return Listing(kind, None, (web.describe(source, access.token),), single=True)
    path = _path_here(source, access)
    return Listing(kind, None, _list_disk(source, path), folder=_folder(path), single=path.is_file())


def folder_here(source: Source, access: Access) -> Path | None:
    """Where a model's files lie on this machine, an archive unpacked; None where they have to be fetched one by one."""
    return _folder(_path_here(source, access)) if source.scheme in _ON_DISK else None


def fetch(source: Source, listing: Listing, wanted: Sequence[ResolvedFile], into: Path, access: Access) -> None:
    """Bring `wanted` of a listed source into the folder `into`, under their paths; local files are linked."""
    into.mkdir(parents=True, exist_ok=True)
    if source.scheme is Scheme.HF:
        at = hub.Commit(source.place, listing.kind, listing.revision or "main")
        hub.download(at, wanted, into, access.token)
        return
    for file in wanted:
        target = into / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.scheme is Scheme.S3:
            buckets.fetch_object(source, file, target, access.bucket(source), access.secrets)
        elif listing.folder is None:
            _download(source, file, target, access)
        else:
            target.unlink(missing_ok=True)
            target.symlink_to((listing.folder / file.path).resolve())


def matching(files: Sequence[ResolvedFile], patterns: Sequence[str]) -> tuple[ResolvedFile, ...]:
    """The files at the top of a source whose names match one of the shell patterns."""
    return tuple(
        file
        for file in files
        # '*' of fnmatch matches '/' too.
        if "/" not in file.path and any(fnmatch.fnmatchcase(file.path, pattern) for pattern in patterns)
    )


def _download(source: Source, file: ResolvedFile, target: Path, access: Access) -> None:
    if file.digest == web.UNKNOWN_VERSION or not target.exists():
        web.download(source, target, access.token)


def _path_here(source: Source, access: Access) -> Path:
    if source.scheme is Scheme.HTTPS:
        return archives.unpacked(source, access.token)
    path = claim_path(source) if source.scheme is Scheme.PVC else local_path(source, access.base)
    if not path.exists():
        raise absent(f"{source.uri}: there is no file or folder {path}", "Correct the path.")
    return path


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _list_disk(source: Source, path: Path) -> tuple[ResolvedFile, ...]:
    if path.is_file():
        return (ResolvedFile(path=path.name, size=path.stat().st_size, digest=file_digest(path)),)
    try:
        return tuple(
            ResolvedFile(path=file.relative_to(path).as_posix(), size=file.stat().st_size, digest=file_digest(file))
            for file in sorted(_files_below(path))
        )
    except PermissionError as error:
        message = f"{source.uri}: this user may not read {error.filename}"
        raise StageFailure(FailureClass.ACCESS_DENIED, message, "Change the file's rights.") from error


def _files_below(folder: Path) -> Iterator[Path]:
    """All files but hidden ones, through links to folders too; a link to a folder that it lies in leads nowhere."""
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_raised):
        here = Path(place)
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_back(here / name, folder)]
        found = (here / name for name in files if not name.startswith("."))
        yield from (file for file in found if file.is_file())


def _leads_back(link: Path, top: Path) -> bool:
    """Whether a folder is a link to one on the way from `top` to it, or to one above."""
    if not link.is_symlink():
        return False
    there = link.resolve()
    way = (parent.resolve() for parent in link.parents if parent.is_relative_to(top))
    return any(place.is_relative_to(there) for place in way)


def _raised(error: OSError) -> None:
    raise error
