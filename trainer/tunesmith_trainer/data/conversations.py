"""A row's columns in, a conversation or a text out; five formats, found out by their columns or said.

A conversation is at most one system message, then user and assistant in turn, and ends with the assistant. Anything
else (unknown roles, tools, pictures, empty turns) makes the row unusable: raised as `RowError`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypedDict

from tunesmith_api.sources import ChatFormat
from tunesmith_trainer.data.names import near, quoted
from tunesmith_trainer.data.rows import RowError


class Message(TypedDict):
    """One turn: `role` is system, user or assistant."""

    role: str
    content: str


Conversation = tuple[Message, ...]
# What a row is: a conversation, or a plain text.
Example = Conversation | str

ROLES = ("system", "user", "assistant")
_OWN_NAMES = {role: role for role in ROLES}
# Names that ShareGPT exports use (LLaMA-Factory's dataset_info.json, axolotl's roles map); tool roles are refused.
_ALIASES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
}
# Enough of a role to know it by: it may be a whole text, in the wrong field.
_SHOWN = 20
_TOOL_ROLES = frozenset({"tool", "function", "function_call", "observation", "ipython", "tool_response"})
# Fields that change what a template renders, and that this version does not train.
_UNSUPPORTED = ("tool_calls", "function_call", "tool_call_id", "tools", "functions", "images", "reasoning_content")
# Columns that decide a format, the most telling first: a row of messages may well have a column called text too.
_MARKS: tuple[tuple[ChatFormat, frozenset[str]], ...] = (
    (ChatFormat.MESSAGES, frozenset({"messages"})),
    (ChatFormat.SHAREGPT, frozenset({"conversations"})),
    (ChatFormat.ALPACA, frozenset({"instruction", "output"})),
    (ChatFormat.PROMPT_COMPLETION, frozenset({"prompt", "completion"})),
    (ChatFormat.TEXT, frozenset({"text"})),
)
EXPECTED = "; ".join(f"{name}: {', '.join(sorted(marks))}" for name, marks in _MARKS)


def detect(columns: Iterable[str]) -> ChatFormat | None:
    """The format that the columns tell, or None."""
    present = frozenset(columns)
    return next((name for name, marks in _MARKS if marks <= present), None)


def nearest(columns: Iterable[str]) -> list[str]:
    """The columns that are missing to the first format whose own are all there but for white space or case."""
    present = frozenset(columns)
    for _, marks in _MARKS:
        absent = sorted(marks - present)
        if len(near(absent, present)) == len(absent):
            return absent
    return []


def missing_columns(wanted: ChatFormat, columns: Iterable[str]) -> list[str]:
    """The columns without which no row is of that format."""
    return sorted(dict(_MARKS)[wanted] - frozenset(columns))


def understand(columns: dict[str, Any], wanted: ChatFormat) -> Example:
    """The conversation or text of a row of that format; raises `RowError`."""
    for field in _UNSUPPORTED:
        if columns.get(field):
            raise RowError(f"has {field}, which this version does not train")
    example = _READERS[wanted](columns)
    return example if isinstance(example, str) else checked(example)


def checked(messages: Sequence[Message]) -> Conversation:
    """The messages without an empty system turn, if they are a conversation that can be trained on."""
    turns = tuple(turn for turn in messages if turn["role"] != "system" or turn["content"].strip())
    for place, turn in enumerate(turns, start=1):
        if turn["role"] == "system" and place > 1:
            raise RowError(f"turn {place} is a system turn; only the first can be")
        if not turn["content"].strip():
            raise RowError(f"turn {place} ({turn['role']}) is empty")
    spoken = [turn["role"] for turn in turns if turn["role"] != "system"]
    if not spoken:
        raise RowError("has no turns")
    for place, role in enumerate(spoken):
        if role != ROLES[1 + place % 2]:
            raise RowError(f"user and assistant do not take turns (turn {place + 1 + len(turns) - len(spoken)})")
    if spoken[-1] != "assistant":
        raise RowError("does not end with an answer of the assistant")
    return turns


def _messages(columns: dict[str, Any]) -> list[Message]:
    return _turns(_needed_list(columns, "messages"), "role", "content", _OWN_NAMES)


def _sharegpt(columns: dict[str, Any]) -> list[Message]:
    turns = _needed_list(columns, "conversations")
    plain = bool(turns) and isinstance(turns[0], dict) and "role" in turns[0]
    messages = _turns(turns, "role", "content", _ALIASES) if plain else _turns(turns, "from", "value", _ALIASES)
    system = _optional(columns, "system")
    return [Message(role="system", content=system), *messages] if system else messages


def _turns(turns: list[Any], role: str, content: str, roles: dict[str, str]) -> list[Message]:
    messages = []
    for place, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict):
            raise RowError(f"turn {place} is no object with {role} and {content}")
        for field in _UNSUPPORTED:
            if turn.get(field):
                raise RowError(f"turn {place} has {field}, which this version does not train")
        said = turn.get(role)
        if not isinstance(said, str):
            raise RowError(f"turn {place} has no {role} that is a text; known are {', '.join(roles)}")
        if said in _TOOL_ROLES:
            raise RowError(f"turn {place} is of the role {said}; tools are not trained by this version")
        if said not in roles:
            raise RowError(f"turn {place} is of the role {said[:_SHOWN]!r}; known are {', '.join(roles)}")
        messages.append(Message(role=roles[said], content=_content(turn.get(content), f"turn {place}")))
    return messages


def _content(value: Any, where: str) -> str:
    """A turn's text; a list of text parts, as OpenAI's format allows, is joined."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in value):
        return "".join(_text(part.get("text"), where) for part in value)
    if isinstance(value, list):
        raise RowError(f"{where} has parts that are no text")
    raise RowError(f"{where} has no content")


def _alpaca(columns: dict[str, Any]) -> list[Message]:
    messages = []
    if system := _optional(columns, "system"):
        messages.append(Message(role="system", content=system))
    for place, pair in enumerate(_list(columns.get("history") or [], "history"), start=1):
        if not isinstance(pair, list) or len(pair) != 2:  # noqa: PLR2004
            raise RowError(f"history {place} is no pair of question and answer")
        messages.append(Message(role="user", content=_text(pair[0], f"history {place}")))
        messages.append(Message(role="assistant", content=_text(pair[1], f"history {place}")))
    instruction = _text(columns.get("instruction"), "instruction")
    extra = _optional(columns, "input")
    question = f"{instruction}\n\n{extra}" if extra.strip() else instruction
    messages.append(Message(role="user", content=question))
    messages.append(Message(role="assistant", content=_text(columns.get("output"), "output")))
    return messages


def _prompt_completion(columns: dict[str, Any]) -> list[Message]:
    messages = []
    if system := _optional(columns, "system"):
        messages.append(Message(role="system", content=system))
    for column, role in (("prompt", "user"), ("completion", "assistant")):
        value = columns.get(column)
        if isinstance(value, list):
            messages += _turns(value, "role", "content", _OWN_NAMES)
        else:
            messages.append(Message(role=role, content=_text(value, column)))
    return messages


def _plain(columns: dict[str, Any]) -> str:
    text = _text(columns.get("text"), "text")
    if not text.strip():
        raise RowError("text is empty")
    return text


_READERS: dict[ChatFormat, Callable[[dict[str, Any]], list[Message] | str]] = {
    ChatFormat.MESSAGES: _messages,
    ChatFormat.SHAREGPT: _sharegpt,
    ChatFormat.ALPACA: _alpaca,
    ChatFormat.PROMPT_COMPLETION: _prompt_completion,
    ChatFormat.TEXT: _plain,
}


def _needed_list(columns: dict[str, Any], name: str) -> list[Any]:
    """The list in a column; where there is none, a name beside it that was misspelt is seen."""
    if columns.get(name) is None:
        raise RowError(f"{name} is missing; the row has {quoted(sorted(columns))}")
    return _list(columns[name], name)


def _list(value: Any, where: str) -> list[Any]:
    """A list, also where a CSV column holds it as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RowError(f"{where} is no JSON list") from None
    if not isinstance(value, list):
        raise RowError(f"{where} is no list")
    return value


def _optional(columns: dict[str, Any], name: str) -> str:
    value = columns.get(name)
    return "" if value is None else _text(value, name)


def _text(value: Any, where: str) -> str:
    if value is None:
        raise RowError(f"{where} is missing")
    if not isinstance(value, str):
        raise RowError(f"{where} is no text")
    return value
