"""From a GGUF and held-out prompts to its answers, given through llama-server, and to what is wrong with them."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.llama_cpp import Tools
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.llama.gguf_file import Gguf
from tunesmith_trainer.llama.server import SLOTS, Completion, Server, Serving, serve
from tunesmith_trainer.scores.chat_check import control_tokens, leaks, loops, without_end
from tunesmith_trainer.scores.held_out import HeldOut, context_for, token_limit

TEMPLATE_KEY = "tokenizer.chat_template"

# What anybody may say first, whatever the dataset is about; their answers are shown and judged for markup, not scored.
PROBES = ("Hello!", "What is the capital of France?", "Thank you.")
# So many rendered prompts are compared with the prepared ones. Less than half of them equal is a template that is not
# the one that was trained with; single ones differ where llama.cpp's tokenizer does (families.md: NFC, white space).
# Half is our own choice, far from both: another template changes every prompt.
_TEMPLATE_ROWS = 8
_TEMPLATE_SHARE = 0.5
_MOST_LEAKS = 8


@dataclass(frozen=True, slots=True)
class Asking:
    """Which model is asked what: at most `most_tokens` tokens an answer; `template`, a file, in place of its own."""

    tools: Tools
    file: Gguf
    rows: Sequence[HeldOut]
    most_tokens: int
    seed: int
    interrupted: threading.Event
    tell: Callable[[float], None]
    template: Path | None = None

    @property
    def limit(self) -> int:
        """Tokens that an answer may take."""
        return token_limit(self.rows, self.most_tokens)


@dataclass(frozen=True, slots=True)
class Answered:
    """The answers in the order of the rows, without the token that ends them, and figures of how they were given."""

    answers: tuple[Completion, ...]
    figures: Mapping[str, Any]


def ask(asking: Asking) -> Answered:
    """All prompts answered by one llama-server, several at a time.

    Conversations go through the GGUF's own chat template, whose prompts must be those that were trained with; a plain
    text is continued. Raises ConversionInvalid where the template is another, and as `serve` does.
    """
    how = Serving(context_for(asking.rows, asking.limit), min(SLOTS, max(len(asking.rows), 1)), asking.template)
    control = _control(asking.file)
    with serve(asking.tools, asking.file.path, how, asking.interrupted) as server:
        same = _template_share(server, asking)
        raw = _in_parallel(server, asking, how.slots)
    answers = tuple(
        Completion(without_end(each.text, control, stopped=each.stopped), each.stopped, each.tokens) for each in raw
    )
    own, probes = answers[: len(asking.rows)], answers[len(asking.rows) :]
    figures = answer_figures(asking.rows, own, control) | {"maxTokens": asking.limit}
    if asking.rows and asking.rows[0].is_chat:
        figures |= {"templateEqual": same, "probes": _probe_figures(probes, control)}
    return Answered(own, figures)


def _control(file: Gguf) -> frozenset[str]:
    return control_tokens(file.tokens, file.metadata.get("tokenizer.ggml.token_type", ()))


def _in_parallel(server: Server, asking: Asking, slots: int) -> list[Completion]:
    calls: list[Callable[[], Completion]] = [_call(server, asking, row) for row in asking.rows]
    if asking.rows and asking.rows[0].is_chat:
        calls += [_probe(server, asking, text) for text in PROBES]
    with ThreadPoolExecutor(slots) as pool:
        waiting: list[Future[Completion]] = [pool.submit(call) for call in calls]
        try:
            for done, each in enumerate(as_completed(waiting), start=1):
                each.result()
                asking.tell(done / len(calls))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return [each.result() for each in waiting]


def _call(server: Server, asking: Asking, row: HeldOut) -> Callable[[], Completion]:
    if row.is_chat:
        return lambda: server.chat(row.prompt, asking.limit, asking.seed)
    return lambda: server.complete(row.prompt_ids, asking.limit, asking.seed)


def _probe(server: Server, asking: Asking, text: str) -> Callable[[], Completion]:
    # A system message that the rows begin with belongs to how the model is used.
    system = [message for message in asking.rows[0].prompt[:1] if message["role"] == "system"]
    return lambda: server.chat([*system, {"role": "user", "content": text}], asking.limit, asking.seed)


def _template_share(server: Server, asking: Asking) -> float | None:
    """The share of prompts that the server renders and tokenizes as they were prepared; None without a conversation.

    A date that its clock wrote is taken for the fixed day's (P10).
    """
    rows = [row for row in asking.rows[:_TEMPLATE_ROWS] if row.is_chat]
    if not rows:
        return None
    template = server.template()
    rendered = [server.rendered(row.prompt, template) for row in rows]
    equal = [server.tokenize(text) == list(row.prompt_ids) for text, row in zip(rendered, rows, strict=True)]
    share = sum(equal) / len(rows)
    if share < _TEMPLATE_SHARE:
        row = rows[equal.index(False)]
        becomes = json.dumps(rendered[equal.index(False)][:200])
        raise StageFailure(
            FailureClass.CONVERSION_INVALID,
            f"{asking.file.path.name} does not answer from the template it was trained with: "
            f"the prompt of row {row.id} becomes {becomes}",
        )
    return share


def answer_figures(rows: Sequence[HeldOut], answers: Sequence[Completion], control: frozenset[str]) -> dict[str, Any]:
    """How many answers ended by themselves, said nothing, went in circles or showed markup; counts of rows.

    `clean` are those with none of these faults. A row whose reference is itself empty or circular is not faulted, nor a
    continued text that goes on or in circles: greedy continuations do (Holtzman et al. 2020, neural text degeneration).
    """
    leaked = [
        leaks(answer.text, _meant(row), control, is_chat=row.is_chat) for row, answer in zip(rows, answers, strict=True)
    ]
    empty = [not answer.text.strip() and _has_to_speak(row) for row, answer in zip(rows, answers, strict=True)]
    circles = [loops(answer.text) and not loops(row.reference) for row, answer in zip(rows, answers, strict=True)]
    endless = [
        row.is_chat and (circle or not answer.stopped)
        for row, answer, circle in zip(rows, answers, circles, strict=True)
    ]
    return {
        "answered": len(answers),
        "stopped": sum(answer.stopped for answer in answers),
        "clean": sum(not any(faults) for faults in zip(leaked, empty, endless, strict=True)),
        "leaks": sum(map(bool, leaked)),
        "leaked": sorted({markup for each in leaked for markup in each})[:_MOST_LEAKS],
        "empty": sum(empty),
        "loops": sum(circles),
        "tokens": sum(answer.tokens for answer in answers),
    }


def _has_to_speak(row: HeldOut) -> bool:
    return not row.is_chat or bool(row.reference.strip())


def _meant(row: HeldOut) -> str:
    return "\n".join([row.text, row.reference, *(message["content"] for message in row.prompt)])


def _probe_figures(answers: Sequence[Completion], control: frozenset[str]) -> list[dict[str, Any]]:
    return [
        {"prompt": prompt, "text": answer.text, "stopped": answer.stopped, "leaks": leaks(answer.text, prompt, control)}
        for prompt, answer in zip(PROBES, answers, strict=True)
    ]
