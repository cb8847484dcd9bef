"""Folders that a call or a manifest names: whether they can be what they are to be, before anything is made."""

import os
import tempfile
from pathlib import Path

from tunesmith.store import FolderStore, Store
from tunesmith.store.local_files import DISK_FULL_ERRORS
from tunesmith_api.failures import FailureClass, StageFailure

_HINT = "Name a folder that you may write to, or a name that is free."


def refuse_store(store: Store, *, writes: bool = True) -> None:
    """Refuse a folder that cannot be a store or, where it `writes`, not be written to.

    Nothing is known of a store elsewhere without asking its service.
    """
    if not isinstance(store, FolderStore):
        return
    if writes:
        refuse_unwritable("the store", store.root)
    else:
        refuse_no_folder("the store", store.root)


def refuse_no_folder(what: str, path: Path) -> None:
    """Raises `SpecInvalid` where `path`, or what it would be made in, is something else than a folder.

    `what` names it in the message: "the store".
    """
    there = _nearest(path)
    if there.is_dir():
        return
    found = "a file" if there.exists() else "a link to nothing"
    wrong = f"is {found}; it must be a folder" if there == path else f"cannot be made: {there} is {found}"
    raise StageFailure(FailureClass.SPEC_INVALID, f"{what} {path} {wrong}", _HINT)


def refuse_unwritable(what: str, path: Path) -> None:
    """Raises `SpecInvalid` where `path` is no folder and cannot become one, or nothing can be written there.

    It is tried with a file that has no name where the system can do that: permission bits say nothing of a read-only
    disk, and nothing of /proc. A full disk is another matter, and told by those who know what is needed.
    """
    refuse_no_folder(what, path)
    there = _nearest(path)
    try:
        with tempfile.TemporaryFile(dir=there):
            return
    except OSError as error:
        if error.errno in DISK_FULL_ERRORS:
            return
        where = "" if there == path else f"in {there} "
        why = f"nothing can be written {where}({error.strerror})"
        raise StageFailure(FailureClass.SPEC_INVALID, f"{what} {path} cannot be used: {why}", _HINT) from error


def _nearest(path: Path) -> Path:
    """The path itself or the nearest folder above it that exists, as far as this user can see."""
    return next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
