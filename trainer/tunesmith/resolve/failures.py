"""Failures of sources that need more than their class: reached and not there, no longer the same, no room for it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith_api.failures import FailureClass, StageFailure

# The rest is about another field (a Secret) or about none (a full disk).
_OF_SOURCES = {
    FailureClass.SPEC_INVALID,
    FailureClass.SOURCE_UNAVAILABLE,
    FailureClass.SOURCE_ABSENT,
    FailureClass.ACCESS_DENIED,
    FailureClass.MODEL_INVALID,
    FailureClass.DATASET_INVALID,
}
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT}


def absent(message: str, hint: str | None = None) -> StageFailure:
    """The place answered, and what the manifest names is not there: trying elsewhere or again will not find it."""
    return StageFailure(FailureClass.SOURCE_ABSENT, message, hint)


@contextmanager
def of_field(field: str) -> Iterator[None]:
    """What is wrong with a source is said with the manifest's field that names it (``spec.datasets[0].source``)."""
    try:
        yield
    except StageFailure as error:
        if error.failure not in _OF_SOURCES:
            raise
        raise StageFailure(error.failure, f"{field}: {error.message}", error.hint, error.artifact) from error


def changed(where: str, what: str = "") -> StageFailure:
    """The failure of a source that is no longer what a job was made for; `what` names the file."""
    return absent(
        f"{where} has changed since this job was made" + (f" ({what})" if what else ""),
        "Make a new job (another name or another output folder) to use the new content.",
    )


@contextmanager
def disk_full_is_told(folder: Path) -> Iterator[None]:
    """A download that this machine's disk cannot hold is `DiskFull`, whatever library wrote it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise StageFailure(FailureClass.DISK_FULL, f"no space left for what is downloaded into {folder}") from error
