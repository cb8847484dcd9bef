"""Whether an object without Jobs needs a pass at all: an operator that starts has one for each, and new ones wait."""

import json

from tunesmith_api.status import Phase
from tunesmith_operator.excerpts import Excerpt


def settled(seen: Excerpt, *, told: bool = True) -> bool:
    """Complete with the spec and the retry that it has now, and no time to live that may be over.

    Where somebody is to be told of its end, not before that has been (`told` is false).
    """
    status = json.loads(seen.status)
    if status.get("phase") != Phase.COMPLETE or status.get("observedGeneration") != seen.generation:
        return False
    if not told and not status.get("notified"):
        return False
    heeded = seen.retry in ("", status.get("retried"))
    return heeded and json.loads(seen.spec).get("ttlSecondsAfterFinished") is None
