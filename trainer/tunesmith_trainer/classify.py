"""An exception that a stage let through becomes a classified failure."""

import errno
import logging

from tunesmith.extras import install_command
from tunesmith_api.failures import FailureClass, StageFailure

log = logging.getLogger(__name__)

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT}
_KNOWN = {
    "MemoryError": (FailureClass.OUT_OF_MEMORY, "this machine ran out of memory"),
    # torch's, named so that torch need not be imported here
    "OutOfMemoryError": (FailureClass.OUT_OF_MEMORY_GPU, "the GPU ran out of memory"),
    "KeyboardInterrupt": (FailureClass.INTERRUPTED, "interrupted"),
}


def classified(error: BaseException) -> StageFailure:
    """The failure that `error` stands for; what nobody foresaw is `Internal`, with its traceback in the log."""
    if (interruption := _interruption_behind(error)) is not None:
        return interruption
    if isinstance(error, StageFailure):
        return error
    if isinstance(error, ImportError) and not (error.name or "tunesmith").startswith("tunesmith"):
        return _package_missing(error)
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return StageFailure(FailureClass.DISK_FULL, f"no space left for {error.filename or 'the scratch folder'}")
    for kind, (failure, message) in _KNOWN.items():
        if any(each.__name__ == kind for each in type(error).__mro__):
            return StageFailure(failure, message)
    log.error("unforeseen", exc_info=error)
    return StageFailure(FailureClass.INTERNAL, f"{type(error).__name__}: {error}"[:500])


def _interruption_behind(error: BaseException | None) -> StageFailure | None:
    """A signal raises wherever the stage is, and a library may tell that as its own fault (transformers: an import)."""
    while error is not None:
        if isinstance(error, StageFailure) and error.failure is FailureClass.INTERRUPTED:
            return error
        error = error.__cause__ or error.__context__
    return None


def _package_missing(error: ImportError) -> StageFailure:
    """The base install has the command line and none of the heavy packages (docs/installation.md)."""
    hint = f"Install what training and measuring need: {install_command('trainer')}"
    return StageFailure(FailureClass.TOOLS_MISSING, f"the Python package {error.name} is missing or broken here", hint)
