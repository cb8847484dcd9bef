"""A model folder in, its tokenizer out: the one that tokenizer.json describes, with what its turns begin and end with.

transformers 5 rebuilds the pre-tokenizer of some classes and then splits text otherwise than the model was trained
(P30): the file is therefore run as it is wherever the two differ. Nothing is fetched and no remote code is run.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.fixed_day import DATE_STRING, FIXED_DAY
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.families import Family
from tunesmith_trainer.data.conversations import Message

# Tokens by which llama.cpp recognises the end of an answer (src/llama-vocab.cpp, the end-of-generation set).
KNOWN_ENDS = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<turn|>",
    "<|return|>",
    "<|end_of_turn|>",
    "</s>",
    "<eos>",
    "<EOT>",
)
# Text on which loaders of tokenizers are known to differ: digits (of other scripts and forms too: on plain ones the
# loss of a rule does not show), spaces, line ends, contractions, scripts, emoji.
PROBES = (
    "Hello, world! It's 2024-07-26, we're at 12:34 and pi is 3.14159265.",
    "def add(a, b):\n    return a + b\n\n\n\tprint(add(1000000, 23))",
    "x² plus 1½ is ٣٤, १२३, Ⅷ or ①②",
    "  two spaces,   three spaces and a trailing one ",
    "Größe, naïve café, Здравствуйте, 你好世界, こんにちは, مرحبا, नमस्ते",
    "👩‍👩‍👧‍👦 ✅ \u00a0 \u200b",
    "HTTPServer CamelCase snake_case don't DON'T I'll",
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """The tokens of a text and the characters that each one stands for."""

    ids: list[int]
    offsets: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer and what is known of its turns.

    `adds_bos`: it puts `bos_id` in front by itself, so llama.cpp does too. `ends` are the tokens that can end an
    answer, by name. `differs` says that transformers' own loading split the probes otherwise than the file.
    """

    inner: Any
    bos_id: int | None
    adds_bos: bool
    eos_id: int | None
    ends: dict[str, int]
    special: frozenset[str]
    template: str | None
    differs: bool

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokens of texts that bring their own markup: nothing is put in front or behind."""
        found = self.inner.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [Encoding(each.ids, each.offsets) for each in found]

    def count(self, text: str) -> int:
        """How many tokens a text has, without any in front or behind."""
        return len(self.encode([text])[0].ids)

    def render(self, messages: Iterable[Message], *, prompting: bool) -> str:
        """The conversation as the model reads it, with the beginning of an answer where it is `prompting` for one.

        Raises jinja2.TemplateError where the template refuses it.
        """
        return str(
            self.inner.apply_chat_template(
                list(messages),
                tokenize=False,
                add_generation_prompt=prompting,
                date_string=DATE_STRING,
                strftime_now=FIXED_DAY.strftime,
            )
        )

    def with_bos(self, ids: list[int]) -> list[int]:
        """The tokens with exactly the beginning that llama.cpp gives them (P1): one, where it adds one."""
        if self.adds_bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            return [self.bos_id, *ids]
        return ids


def load_tokenizer(folder: Path, family: Family) -> Tokenizer:
    """The tokenizer of the model in `folder`; raises ModelInvalid where there is none that can be used."""
    inner, differs = _load(folder)
    _check_round_trip(inner)
    vocabulary = inner.get_vocab()
    config = _json(folder / "config.json")
    bos = inner.bos_token_id
    first = inner.backend_tokenizer.encode("", add_special_tokens=True).ids[:1]
    names = (*family.eot_tokens, *(family.eot_tokens or KNOWN_ENDS))
    ends = {name: vocabulary[name] for name in names if name in vocabulary}
    for number in _end_ids(inner, config, _json(folder / "generation_config.json")):
        name = inner.convert_ids_to_tokens(number)
        if name is not None:
            ends[name] = number
    template = inner.get_chat_template() if inner.chat_template else None
    return Tokenizer(
        inner=inner,
        bos_id=bos,
        adds_bos=bos is not None and first == [bos],
        eos_id=inner.eos_token_id,
        ends=ends,
        special=frozenset(token.content for token in inner.added_tokens_decoder.values() if token.special),
        template=template,
        differs=differs,
    )


def _load(folder: Path) -> tuple[Any, bool]:
    from tokenizers import Tokenizer as Raw
    from transformers import AutoTokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise _invalid("has no tokenizer.json", "Use a model with a fast tokenizer; transformers can convert one.")
    try:
        raw = Raw.from_file(str(file))
        loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (StageFailure, ImportError):
        # A signal's, which is no fault of the tokenizer; a package that is missing is none either.
        raise
    # The loaders raise whatever their parsers raise.
    except Exception as error:
        raise _invalid(f"has a tokenizer that cannot be loaded: {error}", "Download the model again.") from error
    raw.no_padding()
    raw.no_truncation()
    if getattr(loaded, "backend_tokenizer", None) is not None and not _differ(raw, loaded.backend_tokenizer):
        return loaded, False
    return _as_the_file_says(raw, loaded), True


def _differ(raw: Any, other: Any) -> bool:
    return any(
        raw.encode(text, add_special_tokens=False).ids != other.encode(text, add_special_tokens=False).ids
        for text in PROBES
    )


def _as_the_file_says(raw: Any, loaded: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **loaded.special_tokens_map)
    tokenizer.chat_template = loaded.chat_template
    return tokenizer


def _check_round_trip(inner: Any) -> None:
    for text in (PROBES[0], PROBES[-1]):
        ids = inner.backend_tokenizer.encode(text, add_special_tokens=False).ids
        back = inner.backend_tokenizer.decode(ids, skip_special_tokens=False)
        if back.strip() != text.strip():
            raise _invalid("has a tokenizer that does not give back the text it was given", "Download the model again.")


def _end_ids(inner: Any, *configs: dict[str, Any]) -> list[int]:
    ids: list[int] = [] if inner.eos_token_id is None else [inner.eos_token_id]
    for config in configs:
        stated = config.get("eos_token_id")
        ids += stated if isinstance(stated, list) else [] if stated is None else [stated]
    return [number for number in ids if isinstance(number, int)]


def choose_pad(tokenizer: Tokenizer, family: Family, trained_ends: Iterable[int]) -> int:
    """A token to pad with that no training row ends with (P4); never one that the vocabulary lacks.

    Only where every candidate ends an answer it is one of these: the collator masks padding by length, so that it is
    safe there too.
    """
    vocabulary = tokenizer.inner.get_vocab()
    named = [vocabulary[name] for name in family.pad_candidates if name in vocabulary]
    own = [number for number in (tokenizer.inner.pad_token_id, tokenizer.inner.unk_token_id) if number is not None]
    trained = set(trained_ends)
    for number in (*named, *own):
        if number not in trained:
            return int(number)
    return int(own[0]) if own else int(tokenizer.eos_id or 0)


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _invalid(f"has a {file.name} that is no JSON: {error}", "Download the model again.") from error
    return content if isinstance(content, dict) else {}


def _invalid(what: str, hint: str) -> StageFailure:
    return StageFailure(FailureClass.MODEL_INVALID, f"the model {what}", hint=hint)
