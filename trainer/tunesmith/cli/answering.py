"""A conversation, or the beginning of a text, and a llama-server become an answer, piece by piece as it is made."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from tunesmith.llama_cpp.serving import conversation
from tunesmith_api.failures import FailureClass, StageFailure

# llama.cpp's tools/server/server-common.cpp, format_error_response: the prompt has more tokens than the context.
_TOO_LONG = "exceed_context_size_error"
# Four times what an answer of an evaluation may have (effective.py, MAX_NEW_TOKENS): a model that does not stop would
# go on to the end of its context.
MOST_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn: `temperature` 0 always takes the likeliest token; an answer has `most` tokens at most."""

    temperature: float = 0.0
    most: int = MOST_TOKENS


@dataclass(frozen=True, slots=True)
class Question:
    """What llama-server is to answer: the path of its API and what the request holds beside how answers are drawn."""

    path: str
    content: Mapping[str, Any]


def of_conversation(messages: Sequence[Mapping[str, str]]) -> Question:
    """The next turn of a conversation, through the model's own template."""
    return Question("/v1/chat/completions", conversation(messages))


def of_text(text: str) -> Question:
    """How a text goes on."""
    return Question("/v1/completions", {"prompt": text})


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer; `cut` where the answer ends here without having come to its end."""

    text: str = ""
    cut: bool = False


def client_of(url: str) -> httpx.Client:
    """A client of the llama-server at `url` that opens a connection per question and knows no proxy.

    llama-server may close a connection that it has streamed an answer over just as the next question goes out on it.
    """
    fresh = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=url, timeout=None, limits=fresh, trust_env=False)  # noqa: S113  # a person waits


def pieces(client: httpx.Client, question: Question, sampling: Sampling) -> Iterator[Piece]:
    """The answer as it comes.

    Raises `SpecInvalid` for a question that is longer than the model reads, `Internal` where the server refuses or is
    gone.
    """
    drawn = {"temperature": sampling.temperature, "max_tokens": sampling.most, "stream": True}
    try:
        with client.stream("POST", question.path, json={**question.content, **drawn}) as stream:
            if stream.is_error:
                raise _refused(stream.read())
            yield from map(piece_of, stream.iter_lines())
    except httpx.TransportError as error:
        message = f"llama-server broke off the conversation: {error or type(error).__name__}"
        hint = "Start 'tunesmith chat' again. If it repeats, memory may be short: choose a smaller quantization."
        raise StageFailure(FailureClass.INTERNAL, message, hint) from error


def piece_of(line: str) -> Piece:
    """What a line of llama-server's event stream adds; StageFailure with its words for an error."""
    name, _, data = line.partition(": ")
    if name not in ("data", "error") or not data.startswith("{"):
        return Piece()
    event = json.loads(data)
    if name == "error" or "error" in event:
        raise _refused(data.encode())
    choice = (event.get("choices") or [{}])[0]
    # OpenAI's API reference, chat completions and completions: "length" is the most tokens, or the context's end.
    text = choice.get("text") or choice.get("delta", {}).get("content")
    return Piece(str(text or ""), choice.get("finish_reason") == "length")


def _refused(body: bytes) -> StageFailure:
    told = _error_of(body)
    if told.get("type") == _TOO_LONG:
        has = f"the conversation has {told.get('n_prompt_tokens')} tokens, and the model reads {told.get('n_ctx')}"
        return StageFailure(FailureClass.SPEC_INVALID, has, "Ask with fewer words, or begin a new conversation.")
    return StageFailure(FailureClass.INTERNAL, f"llama-server refused to answer: {told.get('message', told)}")


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
        return dict(told.get("error", told))
    except (ValueError, TypeError, AttributeError):
        return {"message": body.decode(errors="replace").strip()[:300]}
