"""Rows become records: pieces of long texts, one per answer where a template wants it; no words are measured twice."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Words
from tokenizers import models, pre_tokenizers

from support.preparing import say
from tunesmith_api.spec import OnTooLong
from tunesmith_trainer.data.conversations import Example, Message
from tunesmith_trainer.data.encode import Assigned, Encoder, Record
from tunesmith_trainer.data.gather import Spooled
from tunesmith_trainer.data.keep import Kept, kept
from tunesmith_trainer.data.rows import Place
from tunesmith_trainer.data.split import Part
from tunesmith_trainer.tokenizer import Tokenizer

EOS = 2


def render(messages: list[Message], *, add_generation_prompt: bool, **_: object) -> str:
    """A chat template that leaves out the thoughts (the word "hm") of all answers but the last, as Qwen3's does."""
    last = len(messages) - 1
    said = [
        turn["content"] if place == last else turn["content"].removeprefix("hm ") for place, turn in enumerate(messages)
    ]
    lines = [f"{turn['role']} {text} </s>\n" for turn, text in zip(messages, said, strict=True)]
    return "".join(lines) + ("assistant " if add_generation_prompt else "")


def words(bos: bool) -> Tokenizer:
    """One token for each word, and a template that wants a record for each answer."""
    inner = Words(models.WordLevel({"word": 0, "<s>": 1, "</s>": EOS, "?": 3}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Tokenizer(
        inner=SimpleNamespace(backend_tokenizer=inner, apply_chat_template=render),
        bos_id=1,
        adds_bos=bos,
        eos_id=EOS,
        ends={"</s>": EOS},
        special=frozenset(),
        template=None,
        differs=False,
    )


def records(
    example: Example,
    most: int,
    policy: OnTooLong = OnTooLong.TRUNCATE_TURNS,
    *,
    bos: bool = False,
    part: Part = Part.TRAIN,
) -> list[Record]:
    """The records of one row, of at most so many tokens."""
    row = Spooled(0, Place("rows.jsonl", 1, "line"), example, "0" * 64)
    return list(Encoder(words(bos), most, policy).records([Assigned(row, part, 1)]))


def pieces(count: int, most: int, *, bos: bool) -> list[Record]:
    """A text of so many words, in pieces of at most so many tokens."""
    return records(" ".join(["word"] * count), most, bos=bos)


def taken(found: list[Record]) -> Kept:
    """What is kept of the records."""
    sample = kept(seed=0)
    for record in found:
        sample.take(record)
    return sample


@given(count=st.integers(1, 70), most=st.integers(2, 16), bos=st.booleans())
def test_every_piece_of_a_text_has_a_token_to_learn(count: int, most: int, bos: bool) -> None:
    """Training refuses a row in which no token but the first is supervised: a model predicts none before it."""
    found = pieces(count, most, bos=bos)

    assert found
    assert all(len(record.ids) <= most and 1 in record.mask[1:] for record in found)
    assert sum(len(record.ids) for record in found) >= count


@pytest.mark.parametrize("count", [8, 16])
def test_a_last_piece_of_nothing_but_the_end_is_left_out(count: int) -> None:
    """Eight words and their end are nine tokens."""
    assert [len(record.ids) for record in pieces(count, 8, bos=False)] == [8] * (count // 8)


@given(count=st.integers(1, 70), most=st.integers(2, 16), bos=st.booleans())
def test_every_word_of_a_cut_text_is_measured_once(count: int, most: int, bos: bool) -> None:
    """Text that stands in the gate several times makes error bars that are too small."""
    text = " ".join(f"word{number}" for number in range(count))

    gate = taken(records(text, most, bos=bos, part=Part.GATE)).gate.texts()
    calibration = taken(records(text, most, bos=bos)).calibration.texts()

    assert sorted(text.split()) == sorted(word for piece in gate for word in piece.split())
    assert sorted(gate) == sorted(calibration)


CHAT = say("a", "hm one", "b", "hm two", "c", "hm three")


def test_of_a_conversation_in_several_records_each_answer_is_measured_once() -> None:
    """A record holds all earlier turns: only the answer that it trains is its own, and the last one shows all turns."""
    gate = taken(records(CHAT, 99, part=Part.GATE)).gate.texts()
    calibration = taken(records(CHAT, 99)).calibration.texts()

    assert sorted(gate) == ["hm one", "hm three", "hm two"]
    assert [text.replace("\n", "") for text in calibration] == [
        "user a </s>assistant one </s>user b </s>assistant two </s>user c </s>assistant hm three </s>"
    ]


def test_of_a_conversation_in_one_record_all_answers_are_measured() -> None:
    """Where the template leaves nothing out there is one record with every answer."""
    plain = say("a", "one", "b", "two")

    assert taken(records(plain, 99, part=Part.GATE)).gate.texts() == ["one\n\ntwo"]
    assert len(taken(records(plain, 99)).calibration.texts()) == 1


def test_a_row_of_great_weight_is_calibrated_with_once() -> None:
    """How often a row is trained on does not multiply its text."""
    (record,) = records("word word", 99)
    often = replace(record, origin=replace(record.origin, times=3))

    assert taken([often]).calibration.texts() == ["word word"]


@pytest.mark.parametrize("policy", [OnTooLong.DROP, OnTooLong.TRUNCATE_TURNS])
def test_a_conversation_in_several_records_is_never_shortened_to_one_that_is_there(policy: OnTooLong) -> None:
    """Without its last turns the third record would be the second one again, and be trained on twice."""
    longest = len(records(CHAT, 99)[-1].ids)

    found = records(CHAT, longest - 1, policy)

    assert [record.said for record in found] == ["hm one", "hm two"]
    assert [record.repeated for record in found] == [True, False]
