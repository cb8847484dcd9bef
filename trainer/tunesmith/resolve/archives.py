"""An archive of a model behind an ``https://`` address becomes a folder in the cache: path-checked, bounded, once.

Archives are hostile input (invariant 8): only plain files and folders below the archive's own top are written, entry by
entry, with none of its owners, modes or times. tarfile's own ``data`` filter is not enough for that: it lets links
within the folder through, takes the '/' off absolute paths instead of refusing them, and is absent in the Python 3.11.2
of Debian 12.
"""

import errno
import gzip
import hashlib
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Generator
from contextlib import ExitStack, closing
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast
from urllib.parse import urlsplit

from tunesmith.cache import cache_dir
from tunesmith.resolve import web
from tunesmith.resolve.failures import disk_full_is_told
from tunesmith.resolve.uri import Source
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ResolvedFile

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
# Weights hardly compress: bfloat16 to two thirds, 32 bit to five sixths (Hershcovitch et al., "ZipNN", 2024), while
# deflate can unpack to 1,032 times its input (zlib, "Technical Details"). Ten times leaves room for anything that
# somebody trained; the floor is for small archives, whose tokenizers are text.
_UNPACKED_PER_BYTE = 10
UNPACKED_FLOOR_BYTES = 256 << 20
# The largest models on hubs have some hundreds of files; each costs an inode whatever its size.
_MOST_ENTRIES = 10_000
# What file systems take as a name (Linux: 255 bytes); a path of two such is within what stores take (S3: 1,024).
_LONGEST_NAME_BYTES = 255
_CHUNK_BYTES = 1 << 20
_PACK = "Pack the model's own folder, with plain files instead of links: tar --dereference -czf model.tar.gz FOLDER."


def unpacked(source: Source, token: str | None) -> Path:
    """The folder that the archive at an address holds, below the cache; downloaded only if the server has another one.

    Raises `ModelInvalid` for what is no archive or a dangerous one, and as `web.download`.
    """
    suffix = _suffix(source)
    known = _folder(source, web.describe(source, token))
    if known is not None and known.is_dir():
        return _top(known)
    sources = cache_dir() / "sources"
    sources.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="archive-", suffix=".partial", dir=sources) as scratch:
        archive, target = Path(scratch) / f"archive{suffix}", Path(scratch) / "unpacked"
        found = web.download(source, archive, token)
        with archive.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        # A server that names no version is asked for all of it each time; what comes is kept by what it is.
        folder = _folder(source, found) or sources / f"archive-{content[:32]}"
        target.mkdir()
        with disk_full_is_told(target):
            unpack(archive, target, source.told)
        _put(target, folder)
    return _top(folder)


def unpack(archive: Path, target: Path, where: str, floor_bytes: int = UNPACKED_FLOOR_BYTES) -> None:
    """Write an archive's files into the empty folder `target`; `where` names the archive in messages.

    Any archive may unpack to `floor_bytes`, a large one to ten times its size.

    Raises `ModelInvalid` for an entry that is neither file nor folder or lies outside, for an archive that is not
    whole, and for one that unpacks to more than any model would.
    """
    budget = _Budget(where, max(floor_bytes, _UNPACKED_PER_BYTE * archive.stat().st_size))
    entries = _zip_entries if archive.name.endswith(".zip") else _tar_entries
    try:
        with closing(entries(archive, budget)) as found:
            for name, content in found:
                _write(target, _checked(name, where), content)
    except (StageFailure, MemoryError):
        raise
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise _invalid(where, f"holds {Path(str(error.filename)).name} twice", "Pack it again.") from error
    except OSError as error:
        # Of a real disk; a broken archive makes its library seek before the file's begin, or raises without a number.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _broken(where, error) from error
    # tarfile and zipfile raise whatever their parsers raise (IndexError, struct.error, RuntimeError if encrypted).
    except Exception as error:
        raise _broken(where, error) from error


class _Budget:
    """How many bytes and entries an archive may still unpack to."""

    def __init__(self, where: str, limit: int) -> None:
        self.where, self.limit = where, limit
        self.bytes = self.entries = 0

    def take(self, count: int) -> None:
        self.bytes += count
        if self.bytes > self.limit:
            what = f"unpacks to more than {self.limit >> 20} MiB, which no model of its size does"
            raise _invalid(self.where, what, "Model weights hardly compress: this is a damaged archive or an attack.")

    def enter(self) -> None:
        self.entries += 1
        if self.entries > _MOST_ENTRIES:
            raise _invalid(self.where, f"has more than {_MOST_ENTRIES} entries", "Pack the model's own folder only.")


class _Readable(Protocol):
    """What an entry's bytes are read from."""

    def read(self, size: int = -1, /) -> bytes: ...


class _Counted:
    """A stream whose bytes count: all of a tar, since its headers can be bombs too, and the content of a zip's files.

    What a zip says of its sizes is not believed.
    """

    def __init__(self, stream: _Readable, budget: _Budget) -> None:
        self.stream, self.budget = stream, budget

    def read(self, size: int = -1, /) -> bytes:
        data = self.stream.read(size)
        self.budget.take(len(data))
        return data


def _tar_entries(archive: Path, budget: _Budget) -> Generator[tuple[str, _Readable], None, None]:
    with ExitStack() as opened:
        stream = opened.enter_context(
            archive.open("rb") if archive.name.endswith(".tar") else gzip.open(archive, "rb")  # noqa: SIM115
        )
        # "r|": read once from front to end, in blocks of `bufsize`, and unpacked by nothing but the stream above.
        counted = cast("IO[bytes]", _Counted(stream, budget))
        tar = opened.enter_context(tarfile.open(fileobj=counted, mode="r|", bufsize=_CHUNK_BYTES))
        for member in tar:
            budget.enter()
            if member.isdir():
                _checked(member.name, budget.where)
                continue
            content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
            if content is None:
                raise _no_file(budget.where, member.name)
            yield member.name, content


def _zip_entries(archive: Path, budget: _Budget) -> Generator[tuple[str, _Readable], None, None]:
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():
            budget.enter()
            # The Unix mode, where the packer wrote one (APPNOTE.TXT 4.4.15; Info-ZIP's extension).
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _no_file(budget.where, entry.filename)
            if entry.is_dir():
                _checked(entry.filename, budget.where)
                continue
            with packed.open(entry) as content:
                yield entry.filename, _Counted(content, budget)


def _checked(name: str, where: str) -> PurePosixPath:
    """The entry's path below the archive's top; a name that leads anywhere else is refused."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise _invalid(where, f"has an entry outside of its folder: {name[:100]!r}", _PACK)
    try:
        longest = max([len(name.encode()) // 2, *(len(part.encode()) for part in path.parts)])
    except UnicodeEncodeError:
        raise _invalid(where, f"has an entry whose name is no text: {name[:100]!r}", _PACK) from None
    if longest > _LONGEST_NAME_BYTES:
        raise _invalid(where, f"has an entry whose name is too long: {name[:100]!r}", _PACK)
    return path


def _write(target: Path, path: PurePosixPath, content: _Readable) -> None:
    if not path.parts or any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
        return  # what file managers leave beside files
    at = target / path
    at.parent.mkdir(parents=True, exist_ok=True)
    with at.open("xb") as file:
        while chunk := content.read(_CHUNK_BYTES):
            file.write(chunk)


def _suffix(source: Source) -> str:
    path = urlsplit(source.uri).path
    suffix = next((suffix for suffix in SUFFIXES if path.endswith(suffix)), None)
    if suffix is None:
        raise _invalid(
            source.told,
            "is no archive, and a model behind https:// must be one",
            f"Name one file ending in {', '.join(SUFFIXES)} that holds the model's folder; on a hub use hf://org/name.",
        )
    return suffix


def _folder(source: Source, described: ResolvedFile) -> Path | None:
    """Where a version of an archive is kept; None where the server does not tell versions apart."""
    if described.digest == web.UNKNOWN_VERSION:
        return None
    # The whole address: two may differ in their query alone.
    identity = hashlib.sha256(f"{source.uri} {described.digest} {described.size}".encode()).hexdigest()[:32]
    return cache_dir() / "sources" / f"archive-{identity}"


def _put(target: Path, folder: Path) -> None:
    try:
        target.rename(folder)
    except OSError:
        # rename(2) takes no folder's place that has something in it: somebody else was as fast, with the same bytes.
        if not folder.is_dir():
            raise


def _top(folder: Path) -> Path:
    """Where the files are: archives are made of a model's files or of the one folder that holds them."""
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def _broken(where: str, error: Exception) -> StageFailure:
    what = f"is no whole archive of its kind ({type(error).__name__}: {error})"
    return _invalid(where, what, "Pack and upload it again; a zip without encryption and with deflate.")


def _no_file(where: str, name: str) -> StageFailure:
    return _invalid(where, f"has an entry that is neither file nor folder: {name[:100]!r}", _PACK)


def _invalid(where: str, what: str, hint: str) -> StageFailure:
    return StageFailure(FailureClass.MODEL_INVALID, f"{where} {what}", hint)
