"""An Ollama Modelfile for one GGUF. Pure.

There is no TEMPLATE in it: Ollama then takes the chat template that the GGUF carries, which is the one that the model
was trained with (Ollama 0.17, server/create.go; P72; docs/stages.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

_GREEDY = "# Answers were measured at temperature 0; Ollama samples. For the same ones: PARAMETER temperature 0"


@dataclass(frozen=True, slots=True)
class ModelfileFacts:
    """What a Modelfile says: file, stops (P69), context in tokens (P70), the system prompt trained with (P11)."""

    file: str
    stops: Sequence[str]
    context_length: int
    system: str | None
    note: str


def modelfile(facts: ModelfileFacts) -> str:
    """The text of the Modelfile."""
    lines = [f"# {facts.note}", _GREEDY, f"FROM ./{facts.file}", f"PARAMETER num_ctx {facts.context_length}"]
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in dict.fromkeys(facts.stops)]
    if facts.system:
        lines.append(f"SYSTEM {_long_quoted(facts.system)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def _long_quoted(text: str) -> str:
    # Ollama's parser reads """ ... """ verbatim and has no escape for three quotes inside it.
    return '"""' + text.replace('"""', "'''") + '"""'
