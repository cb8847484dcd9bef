"""What a stage's pod has said at its end: its result, in the termination message (contract 5)."""

import json
from collections.abc import Sequence

from pydantic import ValidationError

from tunesmith_api.stages import StageResult
from tunesmith_operator.world import StagePod


def result_of(pods: Sequence[StagePod]) -> StageResult | None:
    """What the newest pod that left a readable result found; None where none did."""
    for pod in sorted(pods, key=lambda each: each.created, reverse=True):
        result = None if pod.ended is None else result_in(pod.ended.message)
        if result is not None:
            return result
    return None


def result_in(message: str) -> StageResult | None:
    """The result in a termination message; None where there is none that can be read."""
    try:
        return StageResult.model_validate(json.loads(message))
    except (ValueError, ValidationError):
        return None
