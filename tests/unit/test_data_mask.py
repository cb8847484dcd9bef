"""Spans to tokens and turns to spans, on a small template and characters as tokens; and on texts for llama.cpp."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.preparing import say
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.data.conversations import Conversation
from tunesmith_trainer.data.mask import check_ends, mask_tokens, render_answers
from tunesmith_trainer.data.report import length_figures
from tunesmith_trainer.data.system import default_system
from tunesmith_trainer.data.texts import Sample, general_text

END = "<end>"


def _chat(messages: Conversation, *, prompting: bool) -> str:
    turns = "".join(f"[{turn['role']}]{turn['content']}{END}\n" for turn in messages)
    return turns + ("[assistant]" if prompting else "")


def _forgets_thoughts(messages: Conversation, *, prompting: bool) -> str:
    """As Qwen3's: the last answer shows its thought, earlier ones do not."""
    last = len(messages) - 1
    turns = "".join(
        f"[{turn['role']}]{'(thought)' if turn['role'] == 'assistant' and place == last else ''}{turn['content']}{END}"
        for place, turn in enumerate(messages)
    )
    return turns + ("[assistant]" if prompting else "")


contents = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)


@given(st.lists(contents, min_size=2, max_size=6).filter(lambda turns: len(turns) % 2 == 0))
def test_every_answer_and_nothing_else_is_trained_with_its_end(turns: list[str]) -> None:
    """P2: for any contents, markup among them, the trained characters are the answers and their ends."""
    (rendered,) = render_answers(say(*turns), _chat, [END])

    mask = mask_tokens([(at, at + 1) for at in range(len(rendered.text))], rendered.spans).mask

    trained = "".join(char for char, on in zip(rendered.text, mask, strict=True) if on)
    assert trained == "".join(answer + END for answer in turns[1::2])


@given(st.text(min_size=1, max_size=20).filter(lambda text: END not in text and text.strip()))
def test_markup_inside_an_answer_does_not_end_it(text: str) -> None:
    """An answer that quotes the end of a turn is trained to its real end."""
    (rendered,) = render_answers(say("q", f"a {END} {text}"), _chat, [END])

    begin, end = rendered.spans[0]
    assert rendered.text[begin:end] == f"a {END} {text}{END}"


def test_a_template_that_forgets_thoughts_gives_one_text_per_answer() -> None:
    """Where an answer looks otherwise once more turns follow, each is trained as it is when it is given."""
    first, second = render_answers(say("a", "b", "c", "d"), _forgets_thoughts, [END])

    assert [first.text[slice(*first.spans[0])], second.text[slice(*second.spans[0])]] == [
        f"(thought)b{END}",
        f"(thought)d{END}",
    ]
    assert "(thought)b" not in second.text


def test_a_template_without_an_end_of_turn_is_refused() -> None:
    """P3: a model that never sees the end of an answer never stops."""
    with pytest.raises(StageFailure, match="no token that ends a turn") as caught:
        render_answers(say("a", "b"), _chat, ["<other>"])

    assert caught.value.failure is FailureClass.MODEL_INVALID


def test_a_template_whose_prompt_is_no_beginning_of_its_answer_is_refused() -> None:
    """The mask is never guessed."""

    def inconsistent(messages: Conversation, *, prompting: bool) -> str:
        return _chat(messages, prompting=False) + ("[bot]" if prompting else "")

    with pytest.raises(StageFailure, match="otherwise than the beginning"):
        render_answers(say("a", "b"), inconsistent, [END])


@pytest.mark.parametrize(
    ("offsets", "mask", "merged"),
    [
        ([(0, 2), (2, 4), (4, 6), (6, 8)], [0, 1, 1, 0], 0),
        ([(0, 3), (3, 6), (6, 8)], [0, 1, 0], 1),
        ([(0, 2), (2, 5), (5, 8)], [0, 1, 0], 0),
        ([(0, 0), (0, 2), (2, 3), (2, 3), (2, 3), (3, 6), (6, 8)], [0, 0, 1, 1, 1, 1, 0], 0),
    ],
)
def test_tokens_are_trained_only_if_they_lie_wholly_in_the_answer(
    offsets: list[tuple[int, int]], mask: list[int], merged: int
) -> None:
    """P8: a token over the boundary belongs to the prompt and is counted; byte tokens share their character's place."""
    found = mask_tokens(offsets, [(2, 6)])

    assert (mask, merged) == (found.mask, found.merged_boundaries)


@pytest.mark.parametrize(
    ("ids", "mask", "fine"),
    [
        ([5, 7, 9], [0, 1, 1], True),
        ([5, 9, 7, 9, 1], [0, 1, 0, 1, 0], True),
        ([5, 7, 8], [0, 1, 1], False),
        ([7, 8, 7, 9], [1, 0, 1, 1], False),
        ([5, 9], [0, 0], False),
    ],
)
def test_every_trained_run_must_end_with_an_end_of_turn(ids: list[int], mask: list[int], fine: bool) -> None:
    """P3: also for answers in the middle, and for rows that train nothing."""
    if fine:
        check_ends(ids, mask, {9})
    else:
        with pytest.raises(StageFailure):
            check_ends(ids, mask, {9})


@pytest.mark.parametrize(
    ("both", "alone", "expected"),
    [
        ("<s>Probe7391Alpha<e>Probe7391Beta", "<s>Be nice.<e>Probe7391Beta", "Be nice."),
        ("<s>Probe7391Alpha<e>Probe7391Beta", "Probe7391Beta", None),
        ("<s>26 Jul\n\nProbe7391Alpha<e>Probe7391Beta", "<s>26 Jul\n\n<e>Probe7391Beta", None),
        ("no place for it, Probe7391Beta", "Probe7391Beta", None),
    ],
)
def test_the_templates_own_system_text_is_found_by_comparison(both: str, alone: str, expected: str | None) -> None:
    """P11: what a template says where nobody says anything."""
    assert expected == default_system(both, alone)


@given(st.lists(st.tuples(st.text(max_size=5), st.integers(1, 50)), min_size=1, max_size=60), st.randoms())
def test_a_sample_of_texts_is_bounded_and_does_not_depend_on_the_order(texts, random) -> None:
    """The same texts in any order leave the same sample, of the wanted size where there is enough."""
    texts = list(dict(texts).items())
    shuffled = random.sample(texts, len(texts))
    samples = [Sample(100, 7), Sample(100, 7)]
    for sample, source in zip(samples, (texts, shuffled), strict=True):
        for text, tokens in source:
            sample.add(text, tokens)

    kept = samples[0].texts()

    assert kept == samples[1].texts()
    size = sum(dict(texts)[text] for text in kept)
    assert min(100, sum(dict(texts).values())) <= size < 150


def test_the_shipped_pieces_are_disjoint_clean_and_large_enough() -> None:
    """Gate, calibration and forgetting share no paragraph, so that no figure is measured on what made it."""
    pieces = {name: general_text(name) for name in ("gate", "calibration", "forgetting")}
    paragraphs = {name: set(text.split("\n\n")) for name, text in pieces.items()}

    assert not paragraphs["gate"] & paragraphs["calibration"]
    assert not paragraphs["gate"] & paragraphs["forgetting"]
    assert not paragraphs["calibration"] & paragraphs["forgetting"]
    # Four characters to a token: 41 windows of 512 tokens for the gate, 24 for what was forgotten.
    assert len(pieces["gate"]) > 41 * 512 * 4
    assert len(pieces["forgetting"]) > 24 * 512 * 4
    assert all("\r" not in text and "\ufeff" not in text and "<|" not in text for text in pieces.values())


def test_lengths_are_nearest_rank_percentiles() -> None:
    """p50 of 1 to 100 is 50."""
    assert length_figures(array("I", range(1, 101))) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}
