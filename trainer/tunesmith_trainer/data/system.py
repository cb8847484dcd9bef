"""A chat template in, what it does with system messages out: whether it takes them, and its own text without one."""

from dataclasses import dataclass, field
from typing import Self

from jinja2 import TemplateError

from tunesmith_api.training import SystemPrompt, SystemPromptMode
from tunesmith_trainer.data.conversations import Conversation, Example, Message
from tunesmith_trainer.tokenizer import Tokenizer

_SYSTEM = "Probe7391Alpha"
_USER = "Probe7391Beta"


@dataclass(slots=True)
class Systems:
    """`merges`: the template has no place for a system message, it goes in front of the first question (P9).

    `default` is the system text that the template writes by itself (P11). `seen` are the different system texts of the
    rows, at most two of them: more make no difference.
    """

    merges: bool
    default: str | None
    seen: set[str | None] = field(default_factory=set)

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        if tokenizer.template is None:
            return cls(merges=False, default=None)
        user = Message(role="user", content=_USER)
        alone = tokenizer.render((user,), prompting=True)
        system = Message(role="system", content=_SYSTEM)
        try:
            both = tokenizer.render((system, user), prompting=True)
            answered = tokenizer.render((system, user, Message(role="assistant", content=_USER)), prompting=False)
        except TemplateError:
            return cls(merges=True, default=None)
        # Mistral's shows it to the last question only, so that it is gone once there is an answer.
        return cls(merges=_SYSTEM not in both or _SYSTEM not in answered, default=default_system(both, alone))

    def see(self, example: Example) -> None:
        """Take note of the row's system text."""
        if not isinstance(example, str) and len(self.seen) <= 1:
            self.seen.add(_system_text(example))

    def effective(self, policy: SystemPrompt) -> str | None:
        """The system text that every row was trained with; None where there is none, or where they differ."""
        if policy.mode is SystemPromptMode.TEXT:
            return policy.text
        if len(self.seen) != 1:
            return None
        (only,) = self.seen
        return self.default if only is None else only


def default_system(both: str, alone: str) -> str | None:
    """What stands in `alone` where `both`, rendered with a system message, has the probe's text."""
    before, found, after = both.partition(_SYSTEM)
    between = after.partition(_USER)[0]
    if not found or not between or not alone.startswith(before):
        return None
    text, ended, _ = alone[len(before) :].partition(between)
    return text.strip() or None if ended else None


def _system_text(conversation: Conversation) -> str | None:
    return conversation[0]["content"] if conversation[0]["role"] == "system" else None
