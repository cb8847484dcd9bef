"""What a llama-server is given time for and sent, by the stages that measure and by ``tunesmith chat`` alike."""

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.fixed_day import DATE_STRING

# Reading 16 GB of weights from a slow network disk takes minutes.
LOAD_SECONDS = 900.0


def conversation(messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The part of a request that the template sees: the day is the one that was trained with (P10)."""
    return {"messages": list(messages), "chat_template_kwargs": {"date_string": DATE_STRING}}
