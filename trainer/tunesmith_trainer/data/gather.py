"""Dataset files and settings in, checked and deduplicated examples out: spooled to a file, with an index in memory.

Needs neither tokenizer nor torch. Per row the index holds two digests (about 150 bytes); the rows themselves lie in the
spool, so that memory does not grow with their length.
"""

from __future__ import annotations

import json
import unicodedata
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path
from typing import TextIO

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.settings import DatasetSettings, PrepareSettings
from tunesmith_api.training import SystemPrompt, SystemPromptMode
from tunesmith_trainer.data.conversations import Conversation, Example, Message
from tunesmith_trainer.data.formats import Read, columns_hint, format_of
from tunesmith_trainer.data.read import READABLE, dataset_files, read_rows
from tunesmith_trainer.data.rows import ColumnAbsent, Place, Problem, RowError
from tunesmith_trainer.data.tally import Tally

# The number of the evaluation dataset among the datasets.
EVALUATION = -1
# 16 bytes: two of a billion rows share a digest with a probability below 1e-20 (birthday bound).
_DIGEST_BYTES = 16

Arrange = Callable[[Example], Example]


@dataclass(slots=True)
class Index:
    """One entry per spooled row, in the order of the spool.

    `rows` are digests of the whole row, `prompts` of its prompt, `datasets` the number of its dataset.
    """

    datasets: array[int] = field(default_factory=lambda: array("h"))
    rows: list[bytes] = field(default_factory=list)
    prompts: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Spooled:
    """One row of the spool: what it says and where it stood."""

    dataset: int
    place: Place
    example: Example
    prompt_sha: str


@dataclass(slots=True)
class Gathered:
    """Everything that was gathered into one spool."""

    spool: Path
    index: Index = field(default_factory=Index)
    tally: Tally = field(default_factory=Tally)
    _prompts: dict[bytes, bytes] = field(default_factory=dict)
    _seen: set[bytes] = field(default_factory=set)

    def __iter__(self) -> Iterator[Spooled]:
        with self.spool.open(encoding="utf-8") as file:
            for line in file:
                dataset, name, number, unit, prompt_sha, example = json.loads(line)
                content = example if isinstance(example, str) else tuple(Message(role=r, content=c) for r, c in example)
                yield Spooled(dataset, Place(name, number, unit), content, prompt_sha)

    def add(self, spool: TextIO, dataset: int, place: Place, example: Example) -> None:
        """One more row, unless it is an exact duplicate of one that is there; raises `RowError`."""
        row = row_digest(example)
        if row in self._seen:
            self.tally.repeat(place)
            return
        self._seen.add(row)
        prompt_sha = sha256(_encoded(prompt_text(example))).hexdigest()
        prompt = bytes.fromhex(prompt_sha)[:_DIGEST_BYTES]
        self.index.datasets.append(dataset)
        self.index.rows.append(row)
        self.index.prompts.append(self._prompts.setdefault(prompt, prompt))
        content = example if isinstance(example, str) else [[turn["role"], turn["content"]] for turn in example]
        spool.write(json.dumps([dataset, place.file, place.number, place.unit, prompt_sha, content]) + "\n")


def numbered(settings: PrepareSettings) -> list[tuple[int, DatasetSettings]]:
    """The datasets with their numbers, the evaluation dataset first: of equal rows the first is kept, and what was
    named to measure with must not be lost to what is trained on."""
    datasets = list(enumerate(settings.datasets))
    return datasets if settings.evaluation is None else [(EVALUATION, settings.evaluation), *datasets]


def gather(folder: Path, spool: Path, settings: PrepareSettings, arrange: Arrange) -> Gathered:
    """All rows of the datasets, each in the sub-folder of its number or ``evaluation``, arranged, into one spool.

    Raises DatasetInvalid for a dataset without readable rows or of unknown columns.
    """
    gathered = Gathered(spool)
    with spool.open("w", encoding="utf-8") as file:
        for number, dataset in numbered(settings):
            source = folder / ("evaluation" if number == EVALUATION else str(number))
            _gather_one(gathered, file, (number, dataset_files(source)), (dataset, arrange))
    return gathered


def _gather_one(
    gathered: Gathered,
    spool: TextIO,
    source: tuple[int, list[Path]],
    how: tuple[DatasetSettings, Arrange],
) -> None:
    number, files = source
    settings, arrange = how
    read: Read | None = None
    tally = gathered.tally
    for row in read_rows(files):
        tally.see(number)
        if isinstance(row, Problem):
            tally.refuse(number, row)
            continue
        if read is None:
            found, read = format_of(row, settings)
            tally.formats.append(found.value)
        try:
            gathered.add(spool, number, row.place, arrange(read(row.columns)))
        except RowError as error:
            cure = columns_hint(row) if isinstance(error, ColumnAbsent) else ""
            tally.refuse(number, Problem(row.place, str(error), cure))
    if read is None:
        told = [each.told(tally.rows[number]) for each in tally.alike if each.dataset == number]
        what = "; ".join([_name(number), *told[:3]])
        hint = "Correct the named rows." if told else f"Readable are {READABLE}."
        raise StageFailure(FailureClass.DATASET_INVALID, f"no row can be read of {what}", hint)


def _name(number: int) -> str:
    return "evaluation.dataset" if number == EVALUATION else f"datasets[{number}]"


def with_system(example: Example, policy: SystemPrompt) -> Example:
    """The conversation under the manifest's policy for system prompts (P11); a text stays as it is."""
    if isinstance(example, str) or policy.mode is SystemPromptMode.KEEP:
        return example
    spoken = tuple(turn for turn in example if turn["role"] != "system")
    if policy.mode is SystemPromptMode.NONE or policy.text is None:
        return spoken
    return (Message(role="system", content=policy.text), *spoken)


def merged_system(example: Example) -> Example:
    """The conversation with its system text in front of the first user turn, for templates that refuse it (P9)."""
    if isinstance(example, str) or example[0]["role"] != "system":
        return example
    system, first, *rest = example
    return (Message(role="user", content=f"{system['content']}\n\n{first['content']}"), *rest)


def prompt_text(example: Example) -> str:
    """What decides that two rows ask the same: system text and first question, or a whole text; case, white space and
    Unicode form do not count.

    Conversations that begin alike count as one prompt, since the shorter one's prompt is the longer one's beginning.
    """
    text = example if isinstance(example, str) else "\n\n".join(_opening(example))
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def _opening(example: Conversation) -> list[str]:
    return [turn["content"] for turn in example[:2] if turn["role"] != "assistant"]


def row_digest(example: Example) -> bytes:
    """Of the whole row; rows with equal digests are exact duplicates. Raises `RowError` for broken Unicode."""
    said = example if isinstance(example, str) else [[turn["role"], turn["content"]] for turn in example]
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
    return blake2b(_encoded(text), digest_size=_DIGEST_BYTES).digest()


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise RowError("holds half of a surrogate pair, which is no character") from None
