"""An exception that a stage let through becomes a classified failure."""

import errno
import logging

from tunesmith_api.failures import FailureClass, StageFailure

log = logging.getLogger(__name__)

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT}


def classified(error: BaseException) -> StageFailure:
    """The failure that `error` stands for; what nobody foresaw is `Internal`, with its traceback in the log."""
    if isinstance(error, StageFailure):
        return error
    if isinstance(error, MemoryError):
        return StageFailure(FailureClass.OUT_OF_MEMORY, "this machine ran out of memory")
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return StageFailure(FailureClass.DISK_FULL, f"no space left for {error.filename or 'the scratch folder'}")
    if type(error).__name__ == "OutOfMemoryError":  # torch's, named so that torch need not be imported here
        return StageFailure(FailureClass.OUT_OF_MEMORY_GPU, "the GPU ran out of memory")
    if isinstance(error, KeyboardInterrupt):
        return StageFailure(FailureClass.INTERRUPTED, "interrupted")
    log.error("unforeseen", exc_info=error)
    return StageFailure(FailureClass.INTERNAL, f"{type(error).__name__}: {error}"[:500])
