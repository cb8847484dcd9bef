"""Many files at once: a local folder goes into the store and comes back verified, several files in parallel."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tunesmith.store.protocol import FileEntry, NotFoundInStoreError, Store
from tunesmith_api.failures import FailureClass, StageFailure

# Files on the way at once; each S3 upload has parallel parts of its own (s3.py), a disk gains nothing from more.
_FILES_AT_ONCE = 4

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_parallel(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """`work` of every item, in order; the first failure is raised once those under way have ended."""
    with ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="store") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()


def files_below(folder: Path) -> list[Path]:
    """The files of a folder at any depth, sorted by path; symbolic links to files count as files."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def put_folder(store: Store, folder: Path, at: str, *, give: bool = False) -> tuple[FileEntry, ...]:
    """Store every file of `folder` below the name `at`; the entries' paths are relative to the folder."""

    def put(path: Path) -> FileEntry:
        relative = path.relative_to(folder).as_posix()
        return store.put_file(path, f"{at}/{relative}", give=give).model_copy(update={"path": relative})

    return tuple(in_parallel(put, files_below(folder)))


def get_entries(store: Store, at: str, entries: Sequence[FileEntry], folder: Path) -> None:
    """Fetch entries below the name `at` into `folder`, each verified (`ArtifactCorrupt` if absent or different)."""

    def get(entry: FileEntry) -> None:
        try:
            store.get_file(f"{at}/{entry.path}", folder / entry.path, entry)
        except NotFoundInStoreError as error:
            raise StageFailure(FailureClass.ARTIFACT_CORRUPT, f"{error} is missing") from error

    in_parallel(get, entries)
