"""Conversations, or plain texts, on which Hugging Face's template and tokenizer are later compared with llama.cpp's.

Built from shapes that loaders are known to render or split differently, and from held-out rows of the user's own.
"""

from collections.abc import Iterable
from itertools import product
from typing import Any

from jinja2 import TemplateError

from tunesmith_trainer.data.conversations import Conversation, Example, Message
from tunesmith_trainer.data.gather import merged_system
from tunesmith_trainer.tokenizer import PROBES, Tokenizer

# Fixed shapes and own rows make about 40 together (pipeline C.2).
OWN_PROBES = 20
# Of a plain text, which may be a book: more than any fixed shape has.
_MOST_CHARACTERS = 2_000


def _say(*turns: tuple[str, str]) -> Conversation:
    return tuple(Message(role=role, content=content) for role, content in turns)


def fixed_conversations(special: Iterable[str]) -> list[Conversation]:
    """Every probe text as a question, with and without system text, in several turns, and with markup inside."""
    markup = " ".join(sorted(special)[:8])
    questions = [_say(("user", text)) for text in PROBES]
    system = [_say(("system", "You answer briefly."), *_pairs(one)) for one in questions[:3]]
    longer = [
        _say(("user", "Name a colour."), ("assistant", "Blue."), ("user", "Another one?")),
        _say(
            ("system", "Be kind."),
            ("user", "1 + 1?"),
            ("assistant", "2"),
            ("user", "And 20 + 22?"),
            ("assistant", "42"),
            ("user", "Thank you!"),
        ),
    ]
    odd = [_say(("user", f"What does {markup} mean?")), _say(("user", "Line one\r\nline two\n\n\nline five"))]
    return [*questions, *system, *longer, *odd]


def _pairs(conversation: Conversation) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in conversation]


def text_probes(own: Iterable[Example], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """`text` and `ids` of each fixed text and of the beginnings of own ones, for a model that is trained on texts."""
    texts = [*PROBES, *(row[:_MOST_CHARACTERS] for row in own if isinstance(row, str))]
    encoded = tokenizer.encode(texts)
    return [
        {"messages": [], "text": text, "ids": tokenizer.with_bos(encoding.ids)}
        for text, encoding in zip(texts, encoded, strict=True)
    ]


def probes(own: Iterable[Example], tokenizer: Tokenizer, merges_system: bool) -> list[dict[str, Any]]:
    """`messages`, `add_generation_prompt`, `text` and `ids` of each probe; what the template refuses is left out."""
    found = []
    fixed = fixed_conversations(tokenizer.special)
    ended = [(*one, Message(role="assistant", content="It does.")) for one in fixed[:6]]
    asked = [row[:-1] for row in own if not isinstance(row, str)]
    for messages, prompt in [*product([*fixed, *asked], [True]), *product(ended, [False])]:
        sent = merged_system(messages) if merges_system else messages
        if isinstance(sent, str):
            continue
        try:
            text = tokenizer.render(sent, prompting=prompt)
        except TemplateError:
            continue
        ids = tokenizer.with_bos(tokenizer.encode([text])[0].ids)
        found.append({"messages": list(sent), "add_generation_prompt": prompt, "text": text, "ids": ids})
    return found
