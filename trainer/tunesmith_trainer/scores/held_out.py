"""From the prepared eval part to the prompts that every model of a job answers, and to the rows its loss is of."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# A plain text is continued from its first half, of which so many tokens suffice.
_MOST_PROMPT_TOKENS = 64


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One row: `prompt` is the conversation without its last answer (empty for plain text), `reference` that answer.

    `text` is the whole of a plain text, which has no reference, and empty for a conversation.
    `prompt_ids` are the tokens that stood before the answer when the row was prepared, `ids` and `mask` (1 =
    supervised) the whole row, `answer_tokens` how long the reference is.
    """

    id: str
    prompt: tuple[dict[str, str], ...]
    reference: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    mask: tuple[int, ...]
    text: str = ""

    @property
    def answer_tokens(self) -> int:
        return len(self.ids) - len(self.prompt_ids)

    @property
    def is_chat(self) -> bool:
        return bool(self.prompt)


def read_held_out(path: Path, prompts: int) -> list[HeldOut]:
    """The first `prompts` rows of eval.parquet in the order of `prompt_sha`, one per prompt.

    The order is that of a hash: a sample that depends neither on the dataset's order nor on a seed.
    """
    from pyarrow import parquet

    keys = parquet.read_table(path, columns=["prompt_sha"]).column("prompt_sha").to_pylist()
    first = {sha: index for index, sha in reversed(list(enumerate(keys)))}
    wanted = [first[sha] for sha in sorted(first)[:prompts]]
    columns = ["input_ids", "mask", "messages", "prompt_sha"]
    rows = parquet.read_table(path, columns=columns).take(wanted).to_pylist()
    return [held_out(row["prompt_sha"], row["messages"], row["input_ids"], row["mask"]) for row in rows]


def held_out(sha: str, messages: str, ids: Sequence[int], mask: Sequence[int]) -> HeldOut:
    """A row as the prepared dataset has it; `messages` is JSON: a list of messages, or {"text": ...}."""
    content = json.loads(messages)
    if isinstance(content, dict):
        start = min(len(ids) // 2, _MOST_PROMPT_TOKENS)
        return HeldOut(sha[:16], (), "", tuple(ids[:start]), tuple(ids), tuple(mask), content["text"])
    start = last_answer(mask)
    return HeldOut(sha[:16], tuple(content[:-1]), content[-1]["content"], tuple(ids[:start]), tuple(ids), tuple(mask))


def last_answer(mask: Sequence[int]) -> int:
    """Where the last run of supervised tokens begins; the length of `mask` if there is none."""
    position = len(mask)
    while position and not mask[position - 1]:
        position -= 1
    if not position:
        return len(mask)
    while position and mask[position - 1]:
        position -= 1
    return position


# An answer may be so much longer than the longest reference before it is cut: a wordy one shows itself as such, and one
# that never ends does not take minutes.
_LONGER = 2
_AT_LEAST = 32


def token_limit(rows: Sequence[HeldOut], most: int) -> int:
    """How many tokens an answer may take, one limit for all prompts and models; `most` is the job's own bound."""
    longest = max((row.answer_tokens for row in rows), default=0)
    return min(most, max(_AT_LEAST, _LONGER * longest))


def context_for(rows: Sequence[HeldOut], limit: int) -> int:
    """Tokens that a conversation may need: the longest prompt, the answer, and room for the probes' system text.

    Rounded up to 256, to which llama-server pads (GGML_PAD in llama-context.cpp).
    """
    longest = max((len(row.prompt_ids) for row in rows), default=0)
    return -(-(longest + limit + 256) // 256) * 256
