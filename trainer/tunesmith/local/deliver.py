"""A publication becomes the user's folder; files of an earlier one that this one has no more are taken away again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tunesmith.published_names import OWN_FOLDER
from tunesmith.resolve.digests import file_digest
from tunesmith.store import Artifacts
from tunesmith.store.publication import deliver, published_files
from tunesmith_api.failures import FailureClass, StageFailure

_DELIVERED = "delivered.json"


def refuse_a_folder_of_others(folder: Path, names: Sequence[str], made: Mapping[str, str] | None = None) -> None:
    """Raises `SpecInvalid` before hours of work where files lie under `names` that may be delivered.

    Files that an earlier run delivered, and whatever has other names, may stay; where
    the result is `made` already (`digests_of`), the very files of it may too.
    """
    if made is not None:
        _refuse_others(folder, made)
        return
    before = _delivered(folder)
    _refuse(folder, [name for name in names if name not in before])


def digests_of(artifacts: Artifacts, key: str) -> dict[str, str]:
    """The sha256 of every file of a publication by path; `ArtifactCorrupt` if the store has not all of it."""
    return {path: file.manifest.entry(file.path).sha256 for path, file in published_files(artifacts, key).items()}


def deliver_anew(artifacts: Artifacts, key: str, folder: Path) -> tuple[Path, ...]:
    """Put all files of a publication into `folder` and return their paths, sorted.

    What an earlier run delivered and this publication no longer has (a quantization that was removed, or is withheld
    now) is removed, but only if it is still the very file that was delivered. Raises `SpecInvalid` where a file that
    no run delivered is in the way.
    """
    with replacing(folder, digests_of(artifacts, key)):
        return deliver(artifacts, key, folder)


@contextmanager
def replacing(folder: Path, now: Mapping[str, str]) -> Iterator[None]:
    """While the block puts the files of `now` (sha256 by path) in place of what an earlier call has delivered.

    As for `deliver_anew`: former files go afterwards, and `SpecInvalid` before anything is written.
    """
    listing, before = folder / OWN_FOLDER / _DELIVERED, _delivered(folder)
    _refuse_others(folder, now)
    listing.parent.mkdir(parents=True, exist_ok=True)
    # Both listings until all is done: killed in between, the next run still knows what is ours.
    listing.write_text(json.dumps(before | dict(now), indent=1))
    yield
    for path in before.keys() - now.keys():
        former = folder / path
        if _is(former, before[path]):
            former.unlink()
    listing.write_text(json.dumps(dict(now), indent=1))


def _delivered(folder: Path) -> dict[str, str]:
    """The sha256 of every file that a run has put into the folder, by path."""
    listing = folder / OWN_FOLDER / _DELIVERED
    return dict(json.loads(listing.read_text())) if listing.exists() else {}


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and file_digest(path) == f"sha256:{sha256}"


def _refuse_others(folder: Path, made: Mapping[str, str]) -> None:
    before = _delivered(folder)
    _refuse(folder, [path for path in made if path not in before and not _is(folder / path, made[path])])


def _refuse(folder: Path, paths: Sequence[str]) -> None:
    in_the_way = list(dict.fromkeys(filter(None, (_in_the_way(folder, path) for path in paths))))
    if in_the_way:
        raise StageFailure(
            FailureClass.SPEC_INVALID,
            f"{folder} holds files of somebody else that the result would replace: {', '.join(in_the_way)}",
            "Choose another --output, or move them away.",
        )


def _in_the_way(folder: Path, path: str) -> str | None:
    """What keeps a file from being made at `path`: something of that name, or a file where a folder is needed."""
    target = folder / path
    if target.exists() or target.is_symlink():
        return path
    parents = (parent for parent in target.parents if parent != folder and parent.is_relative_to(folder))
    return next(
        (str(parent.relative_to(folder)) for parent in parents if parent.exists() and not parent.is_dir()), None
    )
