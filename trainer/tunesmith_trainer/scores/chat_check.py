"""From an answer to what is wrong with it as an answer, whatever it says: markup, silence, going round in circles."""

import re
from collections.abc import Iterable, Sequence

# llama_token_type of llama.h: tokens that are no text.
CONTROL_TOKEN = 3

# Markup of the chat formats that are in use, beside the model's own control tokens: a model whose tokenizer lost them
# writes them out as characters.
_MARKUP = re.compile(
    r"<\|\w[\w -]{0,31}\|?>|<\|?/?(?:im_start|im_end|start_of_turn|end_of_turn|eot_id|turn)\|?>|\[/?INST\]|<</?SYS>>"
    r"|^#{2,3} ?(?:Instruction|Response|Human|Assistant)\b|^(?:User|Human|Assistant|System):"
    r"|^(?:user|assistant|model)$",
    re.MULTILINE,
)

# A phrase of up to so many words, so many times in a row, so many words in all: no answer means to do that. Our own
# choice, rather too lenient, since a false alarm tells against a good file, and a true circle goes on until the answer
# is cut: emphasis and refrains say a thing two or three times, laughter ends before twelve words, 24 words are two
# sentences.
_PHRASE_WORDS = 24
_TIMES = 4
_LOOP_WORDS = 12


def control_tokens(tokens: Sequence[str], types: Sequence[int]) -> frozenset[str]:
    """The control tokens of a GGUF's vocabulary, as they are written."""
    return frozenset(token for token, kind in zip(tokens, types, strict=False) if kind == CONTROL_TOKEN and token)


def without_end(text: str, control: Iterable[str], *, stopped: bool) -> str:
    """The answer without the one control token that ended it, which a server with --special spells out."""
    if stopped:
        for token in control:
            if text.endswith(token):
                return text[: -len(token)]
    return text


def leaks(text: str, meant: str, control: Iterable[str], *, is_chat: bool = True) -> list[str]:
    """Markup in an answer that is not in what was `meant`: prompt and reference, or the plain text that is continued.

    What chat formats write in letters ("User:", "### Response") are words like others in a plain text.
    """
    found = {token for token in control if token in text}
    found |= {match[0] for match in _MARKUP.finditer(text)} if is_chat else set()
    return sorted(markup for markup in found if markup not in meant)


def loops(text: str) -> bool:
    """Whether the answer repeats one phrase at least four times in a row, over at least twelve words."""
    words = text.split()
    return any(_longest_run(words, size) >= max(_TIMES * size, _LOOP_WORDS) for size in range(1, _PHRASE_WORDS + 1))


def _longest_run(words: Sequence[str], period: int) -> int:
    """The length of the longest stretch of words in which each equals the one `period` words before it."""
    longest = run = 0
    for before, after in zip(words, words[period:], strict=False):
        run = run + 1 if before == after else 0
        longest = max(longest, run)
    return longest + period if longest else 0
