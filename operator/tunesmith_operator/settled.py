"""Whether an object without Jobs needs a pass at all: an operator that starts has one for each, and new ones wait."""

import json
from datetime import datetime

from tunesmith_api.status import Phase
from tunesmith_operator.excerpts import Excerpt


def settled(seen: Excerpt, news_since: datetime | None = None) -> bool:
    """Complete with the spec and the retry that it has now, and no time to live that may be over.

    Where somebody is told of jobs that have ended since `news_since`, one of these is not.
    """
    status = json.loads(seen.status)
    if status.get("phase") != Phase.COMPLETE or status.get("observedGeneration") != seen.generation:
        return False
    if news_since is not None and datetime.fromisoformat(status["finished"]) > news_since:
        return False
    heeded = seen.retry in ("", status.get("retried"))
    return heeded and json.loads(seen.spec).get("ttlSecondsAfterFinished") is None
