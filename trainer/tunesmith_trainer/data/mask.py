"""A conversation and a template in, the text that is trained and the spans of its answers out; then spans to tokens.

Template-agnostic (P2): what is rendered before an answer, with the generation prompt, must be how the text with the
answer begins; the answer is what follows, up to and including the token that ends the turn (P3).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.data.conversations import Conversation

Span = tuple[int, int]


class Render(Protocol):
    """A chat template: a conversation as one text, with the beginning of an answer where it is prompting for one."""

    def __call__(self, messages: Conversation, *, prompting: bool) -> str: ...


@dataclass(frozen=True, slots=True)
class Rendered:
    """One text to train on: its messages, and where its trained answers begin and end, in characters."""

    text: str
    spans: tuple[Span, ...]
    messages: Conversation


@dataclass(frozen=True, slots=True)
class Masked:
    """The tokens' mask (1 = trained), and how many answers begin inside a token of the prompt (P8)."""

    mask: list[int]
    merged_boundaries: int


def render_answers(messages: Conversation, render: Render, ends: Collection[str]) -> list[Rendered]:
    """The conversation as one text with every answer trained, or as one text per answer.

    The latter where the template renders an answer otherwise once more turns follow (Qwen3 removes earlier thoughts):
    each is then trained as it is when it is given.
    Raises ModelInvalid where a prompt is no beginning of its answer, or an answer has no token that ends it.
    """
    turns = [place for place, turn in enumerate(messages) if turn["role"] == "assistant"]
    answers = [_answer(messages[: place + 1], render, ends) for place in turns]
    whole = answers[-1].text
    if all(whole[: answer.spans[0][1]] == answer.text[: answer.spans[0][1]] for answer in answers):
        return [Rendered(whole, tuple(answer.spans[0] for answer in answers), messages)]
    return answers


def _answer(messages: Conversation, render: Render, ends: Collection[str]) -> Rendered:
    prompt = render(messages[:-1], prompting=True)
    text = render(messages, prompting=False)
    if not text.startswith(prompt):
        raise StageFailure(
            FailureClass.MODEL_INVALID,
            "the chat template renders a prompt otherwise than the beginning of its answer, so that the trained part "
            f"cannot be told from the rest: the prompt ends with {prompt[-40:]!r}",
            hint="Use a model whose template agrees with its own generation prompt.",
        )
    said = text.find(messages[-1]["content"].strip(), len(prompt))
    after = len(prompt) if said < 0 else said + len(messages[-1]["content"].strip())
    stops = [(place, place + len(end)) for end in ends if (place := text.find(end, after)) >= 0]
    if not stops:
        raise StageFailure(
            FailureClass.MODEL_INVALID,
            f"the chat template ends an answer with {text[after:][-40:]!r}, which is no token that ends a turn: "
            "a model trained on it would never stop",
            hint=f"Use an instruct variant of the model. Tokens that end a turn are: {', '.join(sorted(ends))}.",
        )
    return Rendered(text, ((len(prompt), min(stops)[1]),), messages)


def mask_tokens(offsets: Sequence[Span], spans: Sequence[Span]) -> Masked:
    """Which tokens lie wholly inside a span; both are in the order of the text.

    A token that reaches over the beginning of a span is of the prompt, which the model is given and does not write.
    """
    mask = [0] * len(offsets)
    merged = 0
    token = 0
    for begin, end in spans:
        while token < len(offsets) and offsets[token][1] <= begin:
            token += 1
        if token < len(offsets) and offsets[token][0] < begin:
            merged += 1
            token += 1
        while token < len(offsets) and offsets[token][1] <= end:
            mask[token] = 1
            token += 1
    return Masked(mask, merged)


def check_ends(ids: Sequence[int], mask: Sequence[int], ends: Collection[int]) -> None:
    """Raises DatasetInvalid unless every trained run of tokens ends with one that ends a turn (P3)."""
    for place, trained in enumerate(mask):
        last = trained and (place + 1 == len(mask) or not mask[place + 1])
        if last and ids[place] not in ends:
            raise StageFailure(
                FailureClass.DATASET_INVALID,
                f"the last trained token of an answer is {ids[place]}, which is no end of a turn",
                hint="The tokenizer joins the end of the turn with the answer; remove what the answer ends with.",
            )
    if 1 not in mask:
        raise StageFailure(FailureClass.DATASET_INVALID, "a row has no trained token")
