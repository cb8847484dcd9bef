"""From a GGUF's chat template and its rendering by llama-server to where it differs from the model's own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith_trainer.llama.gguf_file import Gguf
from tunesmith_trainer.llama.server import Server

TEMPLATE_KEY = "tokenizer.chat_template"
# Characters shown around the first difference.
SHOWN = 40


@dataclass(frozen=True, slots=True)
class Probe:
    """A conversation as Hugging Face renders and tokenizes it; `messages` is empty for plain text."""

    messages: tuple[Mapping[str, Any], ...]
    add_generation_prompt: bool
    text: str
    ids: tuple[int, ...]


def read_probes(content: Iterable[Mapping[str, Any]]) -> list[Probe]:
    """The entries of probes.json."""
    return [
        Probe(
            tuple(entry.get("messages") or ()),
            bool(entry.get("add_generation_prompt")),
            str(entry["text"]),
            tuple(int(token) for token in entry["ids"]),
        )
        for entry in content
    ]


def template_findings(file: Gguf, intended: str | None) -> list[str]:
    """Whether the GGUF carries exactly the template that the model was trained with (P41, P42)."""
    stored = file.metadata.get(TEMPLATE_KEY)
    if intended is None or stored == intended:
        return []
    if stored is None:
        return ["it has no chat template: programs would fall back to another one (P42)"]
    return [f"its chat template is another one than the model's (P41): {_first_difference(intended, stored)}"]


def rendering_findings(server: Server, probes: Sequence[Probe], bos: str | None) -> tuple[int, list[str]]:
    """How many conversations llama-server was asked for, and which of them it renders otherwise than Hugging Face.

    Only those that end with a prompt for an answer, since that is what a server renders. The server leaves out a
    leading BOS, which it puts back as a token (P44). A date that its clock wrote is taken for the fixed day's (P10).
    """
    asked = [probe for probe in probes if probe.add_generation_prompt and probe.messages]
    found, template = [], server.template()
    for probe in asked:
        rendered = server.rendered(probe.messages, template)
        wanted = probe.text
        if bos and wanted.startswith(bos) and not rendered.startswith(bos):
            wanted = wanted.removeprefix(bos)
        if rendered != wanted:
            found.append(f"llama-server renders a conversation otherwise: {_first_difference(wanted, rendered)}")
    return len(asked), found


def _first_difference(wanted: str, found: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), min(len(wanted), len(found)))
    start = max(0, at - SHOWN // 2)
    return f"{found[start : at + SHOWN]!r} where {wanted[start : at + SHOWN]!r} belongs"
