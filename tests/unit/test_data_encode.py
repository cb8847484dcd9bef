"""Texts that are too long become pieces, each of which can be trained on."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Words
from tokenizers import models, pre_tokenizers

from tunesmith_api.spec import OnTooLong
from tunesmith_trainer.data.encode import Assigned, Encoder, Record
from tunesmith_trainer.data.gather import Spooled
from tunesmith_trainer.data.rows import Place
from tunesmith_trainer.data.split import Part
from tunesmith_trainer.tokenizer import Tokenizer

EOS = 2


def words(bos: bool) -> Tokenizer:
    """One token for each word."""
    inner = Words(models.WordLevel({"word": 0, "<s>": 1, "</s>": EOS, "?": 3}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Tokenizer(
        inner=SimpleNamespace(backend_tokenizer=inner),
        bos_id=1,
        adds_bos=bos,
        eos_id=EOS,
        ends={"</s>": EOS},
        special=frozenset(),
        template=None,
        differs=False,
    )


def pieces(count: int, most: int, *, bos: bool) -> list[Record]:
    """A text of so many words, in pieces of at most so many tokens."""
    row = Spooled(0, Place("rows.jsonl", 1, "line"), " ".join(["word"] * count), "0" * 64)
    encoder = Encoder(words(bos), most, OnTooLong.TRUNCATE_TURNS)
    return list(encoder.records([Assigned(row, Part.TRAIN, 1)]))


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
