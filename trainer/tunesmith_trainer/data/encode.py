"""Spooled rows in, tokens with their mask out, in batches; rows that are too long are treated as the manifest says."""

import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.spec import OnTooLong
from tunesmith_trainer.data.conversations import Example
from tunesmith_trainer.data.gather import Spooled
from tunesmith_trainer.data.mask import Rendered, check_ends, mask_tokens, render_answers
from tunesmith_trainer.data.rows import Place
from tunesmith_trainer.data.split import Part
from tunesmith_trainer.data.tally import KEPT_PROBLEMS
from tunesmith_trainer.tokenizer import Encoding, Tokenizer

BATCH_ROWS = 256
# Up to this share of rows may begin an answer inside a token of the prompt: these lose one trained token each. More is
# a systematic fault of template and tokenizer, or of answers that begin with white space (P8).
MERGED_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Assigned:
    """One row, the part that it belongs to and how often it is seen there."""

    row: Spooled
    part: Part
    times: int


@dataclass(frozen=True, slots=True)
class Record:
    """One row to train or measure on: `mask` is 1 where a token is trained, `text` what was tokenized.

    `said` are the trained words as they were written, which no other record of the same row trains; `repeated` says
    that another record of the row holds the same turns, and more.
    """

    origin: Assigned
    ids: list[int]
    mask: list[int]
    text: str
    example: Example
    said: str
    repeated: bool = False


@dataclass(slots=True)
class Lengths:
    """What was seen while encoding; every list of places holds the first ones only.

    Rows of which something was too long are `truncated` where something is left of them, else `dropped`.
    """

    tokens: "array[int]" = field(default_factory=lambda: array("I"))
    dropped: int = 0
    truncated: int = 0
    merged: int = 0
    split_answers: int = 0
    markup: int = 0
    too_long_places: list[Place] = field(default_factory=list)
    markup_places: list[Place] = field(default_factory=list)
    ends: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Encoder:
    """How rows become tokens, and what was seen of them."""

    tokenizer: Tokenizer
    max_length: int
    on_too_long: OnTooLong
    lengths: Lengths = field(default_factory=Lengths)

    def records(self, rows: Iterable[Assigned]) -> Iterator[Record]:
        """The records of all rows, in their order.

        Raises DatasetInvalid where rows are too long under OnTooLong.FAIL or where answers merge with their prompts,
        ModelInvalid where the chat template cannot be trained with.
        """
        markup = _markup_pattern(self.tokenizer.special)
        source = iter(rows)
        count = 0
        while batch := list(islice(source, BATCH_ROWS)):
            count += len(batch)
            texts = [self._texts(each.row) for each in batch]
            encodings = iter(self.tokenizer.encode([each.text for group in texts for each in group]))
            for origin, group in zip(batch, texts, strict=True):
                self._note_markup(origin.row, markup)
                self.lengths.split_answers += len(group) > 1
                yield from self._fitting(origin, group, [next(encodings) for _ in group])
        self._check(count)

    def _texts(self, row: Spooled) -> list[Rendered]:
        if isinstance(row.example, str):
            return [Rendered(row.example, (), ())]
        return render_answers(row.example, self.tokenizer.render, self.tokenizer.ends)

    def _fitting(self, origin: Assigned, group: list[Rendered], encodings: list[Encoding]) -> list[Record]:
        """The row's records that are short enough, or what onTooLong leaves of them."""
        records = [self._record(origin, *pair) for pair in zip(group, encodings, strict=True)]
        self.lengths.tokens.extend(len(record.ids) for record in records)
        kept = [record for record in records if len(record.ids) <= self.max_length]
        if len(kept) < len(records):
            if len(self.lengths.too_long_places) < KEPT_PROBLEMS:
                self.lengths.too_long_places.append(origin.row.place)
            # A conversation in one record per answer without its last turns is what its other records are.
            if not kept and self.on_too_long is OnTooLong.TRUNCATE_TURNS:
                kept = self._shortened(records[0], group[0], encodings[0])
            self.lengths.truncated += bool(kept)
            self.lengths.dropped += not kept
        if len(group) > 1:
            kept = [replace(record, repeated=record is not kept[-1]) for record in kept]
        return [self._checked(record) for record in kept]

    def _record(self, origin: Assigned, rendered: Rendered, encoding: Encoding) -> Record:
        if isinstance(origin.row.example, str):
            ids, mask = self._text_tokens(encoding)
            return Record(origin, ids, mask, rendered.text, origin.row.example, origin.row.example)
        masked = mask_tokens(encoding.offsets, rendered.spans)
        self.lengths.merged += bool(masked.merged_boundaries)
        ids = self.tokenizer.with_bos(encoding.ids)
        mask = [0] * (len(ids) - len(masked.mask)) + masked.mask
        answers = [turn["content"] for turn in rendered.messages if turn["role"] == "assistant"]
        said = "\n\n".join(answers[-len(rendered.spans) :])
        return Record(origin, ids, mask, rendered.text, rendered.messages, said)

    def _text_tokens(self, encoding: Encoding) -> tuple[list[int], list[int]]:
        """A whole text is trained, and its end with it; only a beginning-of-text token is not."""
        eos = self.tokenizer.eos_id
        if eos is None:
            raise StageFailure(FailureClass.MODEL_INVALID, "the model's tokenizer has no end-of-text token")
        ids = [*self.tokenizer.with_bos(encoding.ids), eos]
        begins = len(ids) - 1 - len(encoding.ids)
        return ids, [0] * begins + [1] * (len(ids) - begins)

    def _shortened(self, record: Record, rendered: Rendered, encoding: Encoding) -> list[Record]:
        """The row without its last turns until it fits; a text in consecutive pieces, of which the last has the end."""
        if isinstance(record.example, str):
            return list(self._pieces(record, encoding))
        for last in range(len(rendered.messages) - 2, 1, -1):
            if rendered.messages[last - 1]["role"] != "assistant":
                continue
            shorter = render_answers(rendered.messages[:last], self.tokenizer.render, self.tokenizer.ends)[-1]
            found = self._record(record.origin, shorter, self.tokenizer.encode([shorter.text])[0])
            if len(found.ids) <= self.max_length:
                return [found]
        return []

    def _pieces(self, record: Record, encoding: Encoding) -> Iterator[Record]:
        """The text of a record cut into pieces that fit; each holds its own part of it, and together they hold all."""
        front = len(record.ids) - 1 - len(encoding.ids)
        end = len(record.text)
        begins = [*[0] * front, *(begin for begin, _ in encoding.offsets), end, end]
        for at in range(0, len(record.ids), self.max_length):
            behind = min(at + self.max_length, len(record.ids))
            ids, mask = record.ids[at:behind], record.mask[at:behind]
            # A first token is never predicted: a piece of nothing else teaches nothing.
            if 1 in mask[1:]:
                own = record.text[begins[at] : begins[behind]]
                yield Record(record.origin, ids, mask, own, own, own)

    def _checked(self, record: Record) -> Record:
        bos = self.tokenizer.bos_id
        if bos is not None and record.ids[:2] == [bos, bos]:
            raise StageFailure(FailureClass.MODEL_INVALID, "a row begins with two beginning-of-text tokens (P1)")
        if not isinstance(record.example, str):
            check_ends(record.ids, record.mask, self.tokenizer.ends.values())
        last = len(record.mask) - 1 - record.mask[::-1].index(1)
        # The first pieces of a text that was cut have no end.
        if record.ids[last] in self.tokenizer.ends.values():
            self.lengths.ends.add(record.ids[last])
        return record

    def _note_markup(self, row: Spooled, markup: re.Pattern[str] | None) -> None:
        said = [row.example] if isinstance(row.example, str) else [turn["content"] for turn in row.example]
        if markup is not None and any(markup.search(text) for text in said):
            self.lengths.markup += 1
            if len(self.lengths.markup_places) < KEPT_PROBLEMS:
                self.lengths.markup_places.append(row.place)

    def _check(self, rows: int) -> None:
        seen = self.lengths
        too_long = seen.dropped + seen.truncated
        if too_long and self.on_too_long is OnTooLong.FAIL:
            first = "; ".join(map(str, seen.too_long_places[:5]))
            raise StageFailure(
                FailureClass.DATASET_INVALID,
                f"{too_long} of {rows} rows have more than {self.max_length} tokens (the longest {max(seen.tokens)}), "
                f"first: {first}",
                hint="Raise training.maxSequenceLength, or set spec.onTooLong to Drop or TruncateTurns.",
            )
        if seen.merged > MERGED_SHARE * rows:
            raise StageFailure(
                FailureClass.DATASET_INVALID,
                f"in {seen.merged} of {rows} rows the tokenizer joins the beginning of an answer with the end of its "
                "prompt, so that the model would be trained on other tokens than it is asked with",
                hint="Remove white space from the beginning of the answers.",
            )


def _markup_pattern(special: frozenset[str]) -> re.Pattern[str] | None:
    """Finds the model's control tokens in text, where they would act as such."""
    return re.compile("|".join(map(re.escape, sorted(special)))) if special else None
