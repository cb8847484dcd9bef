"""Answers and losses become scores, and scores get intervals."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_api.measuring import Metric
from tunesmith_trainer.llama.libllama import Losses, RowLoss
from tunesmith_trainer.llama.server import Completion
from tunesmith_trainer.scores.answering import answer_figures
from tunesmith_trainer.scores.chat_check import control_tokens, leaks, loops, without_end
from tunesmith_trainer.scores.held_out import HeldOut, context_for, held_out, last_answer, read_held_out, token_limit
from tunesmith_trainer.scores.intervals import RESAMPLES, difference_interval, mean_interval, ratio_interval
from tunesmith_trainer.scores.metrics import chrf, exact_match, fields, label_figures, labels
from tunesmith_trainer.scores.scoring import (
    Scored,
    answer_record,
    gain_figures,
    lost_figures,
    score_answers,
    score_figures,
)


def a_row(reference: str = "yes", question: str = "Is it?", answer_tokens: int = 3) -> HeldOut:
    """A held-out conversation of five prompt tokens."""
    prompt = ({"role": "user", "content": question},)
    ids = tuple(range(5 + answer_tokens))
    return HeldOut("0" * 16, prompt, reference, ids[:5], ids, (0,) * 5 + (1,) * answer_tokens)


def said(text: str, stopped: bool = True) -> Completion:
    return Completion(text, stopped, len(text.split()))


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("Paris", "Paris", 1.0),
        ("  paris \n", "Paris", 1.0),
        ("Pa\u0301ris", "P\u00e1ris", 1.0),
        ("Paris.", "Paris", 0.0),
        ("Lyon", "Paris", 0.0),
    ],
)
def test_exact_match_overlooks_case_white_space_and_composition(answer: str, reference: str, expected: float) -> None:
    """Nothing else is overlooked."""
    assert exact_match(answer, reference) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Department: Parks\nUrgency: low", {"department": "parks", "urgency": "low"}, id="lines"),
        pytest.param("Department: Parks, Urgency: LOW.", {"department": "parks", "urgency": "low"}, id="commas"),
        pytest.param("positive", {"": "positive"}, id="one label"),
        pytest.param("Positive.\n", {"": "positive"}, id="one label with a full stop"),
        pytest.param("Address: 1 Elm St, Springfield", {"address": "1 elm st, springfield"}, id="a comma in a value"),
        pytest.param("I think so.\nUrgency: low", {"": "i think so. urgency: low"}, id="a sentence before"),
        pytest.param("", {"": ""}, id="nothing"),
    ],
)
def test_labels_are_named_fields_or_one_label(text: str, expected: dict[str, str]) -> None:
    """Lines or commas part the fields; an answer that is more than fields is one label."""
    assert fields(text) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("urgency: low\ndepartment: parks", 1.0),
        ("Department: Parks\nUrgency: high", 0.0),
        ("Department: Parks", 0.0),
        ("Department: Parks\nUrgency: low\nNote: none", 0.0),
    ],
)
def test_all_fields_must_be_right_and_no_other_named(answer: str, expected: float) -> None:
    """The order of the fields does not count."""
    assert labels(answer, "Department: Parks\nUrgency: low") == expected


def test_each_field_has_its_accuracy_and_its_table() -> None:
    """Which class became which; what no reference knows is other, what is not named absent."""
    references = ["Urgency: low", "Urgency: low", "Urgency: high", "Urgency: high"]
    answers = ["Urgency: low", "Urgency: high", "Urgency: medium", "no idea"]

    assert label_figures(answers, references) == {
        "urgency": {
            "accuracy": 0.25,
            "n": 4,
            "confusion": {"high": {"(absent)": 1, "(other)": 1}, "low": {"high": 1, "low": 1}},
        }
    }


def test_chrf_is_a_fraction_that_grows_with_likeness() -> None:
    """1 for the same text, 0 for nothing in common."""
    close, far = chrf("The cat sat on the mat", "The cat sat on a mat"), chrf("zzz", "The cat sat on a mat")

    assert chrf("The cat", "The cat") == pytest.approx(1.0)
    assert 0.5 < close < 1
    assert far == 0


def test_an_interval_holds_the_mean_and_is_the_same_each_time() -> None:
    """Seeded: the same figures from the same answers, another seed another sample of resamples."""
    scores = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    first = mean_interval("Labels", scores, seed=7)

    assert first == mean_interval("Labels", scores, seed=7)
    assert first["low"] < first["value"] == 0.75 < first["high"]
    assert (first["metric"], first["n"]) == ("Labels", 8)


def test_the_interval_has_the_width_of_the_binomials() -> None:
    """50 of 100 right: 0.5 give or take 1.96 standard errors of 0.05."""
    found = mean_interval("ExactMatch", [0.0, 1.0] * 50, seed=1)

    assert found["low"] == pytest.approx(0.402, abs=0.015)
    assert found["high"] == pytest.approx(0.598, abs=0.015)
    assert RESAMPLES >= 1000


@pytest.mark.parametrize(
    ("score", "rows", "low", "high"), [(0.0, 60, 0.0, 0.0596), (1.0, 6, 0.5407, 1.0), (1.0, 1, 0.025, 1.0)]
)
def test_all_right_or_all_wrong_is_not_beyond_doubt(score: float, rows: int, low: float, high: float) -> None:
    """The exact binomial interval, as any table of it has it."""
    found = mean_interval("ExactMatch", [score] * rows, seed=3)

    assert (found["low"], found["high"]) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_a_loss_is_weighted_by_tokens() -> None:
    """One row of ten tokens counts ten times a row of one."""
    assert ratio_interval("Loss", [10.0, 5.0], [10.0, 1.0], seed=1)["value"] == pytest.approx(15 / 11)


def test_a_paired_difference_is_surer_than_two_scores() -> None:
    """Rows are resampled together: that some are harder for both does not blur the difference."""
    ones = [1.0] * 40
    hard = [float(index % 2) for index in range(40)]
    less = [score - 0.1 for score in hard]

    found = difference_interval("ChrF", (less, ones), (hard, ones), seed=3)

    assert found["value"] == pytest.approx(0.1)
    assert found["high"] - found["low"] == pytest.approx(0.0, abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 1000))
def test_an_interval_never_leaves_the_scores_range(scores: list[float], seed: int) -> None:
    """A mean lies within, of resampled scores between the least and the greatest."""
    found = mean_interval("ChrF", scores, seed)

    assert 0 <= found["low"] <= found["value"] + 1e-9
    assert found["value"] - 1e-9 <= found["high"] <= 1
    if set(scores) not in ({0.0}, {1.0}):
        assert min(scores) - 1e-9 <= found["low"] <= found["high"] <= max(scores) + 1e-9


def test_no_rows_have_no_score() -> None:
    """None, not a number that means nothing."""
    assert mean_interval("ChrF", [], seed=1)["value"] is None


def test_gains_are_positive_when_the_tuned_model_is_better() -> None:
    """More of a score and less of a loss are both a gain."""
    rows = [a_row("a"), a_row("b"), a_row("c")]
    base = _scored(rows, ["x", "b", "x"], [6.0, 6.0, 6.0])
    tuned = _scored(rows, ["a", "b", "x"], [3.0, 3.0, 4.5])

    gains = gain_figures(base, tuned, seed=1)

    assert gains["gain"]["value"] == pytest.approx(1 / 3)
    assert gains["lossGain"]["value"] == pytest.approx((18 - 10.5) / 9)


def test_the_metric_loss_has_the_loss_as_its_score() -> None:
    """No answer is scored then; the gain is the loss saved."""
    rows = [a_row(), a_row()]
    base = _scored(rows, ["x", "y"], [6.0, 9.0], Metric.LOSS)
    tuned = _scored(rows, ["x", "y"], [3.0, 3.0], Metric.LOSS)

    assert base.scores == ()
    assert score_figures(base, 1)["score"]["value"] == pytest.approx(2.5)
    assert gain_figures(base, tuned, 1)["gain"]["value"] == pytest.approx(1.5)


def _records(scored: Scored) -> list[dict[str, Any]]:
    return [answer_record(scored, index) for index in range(len(scored.rows))]


def test_a_quantization_is_compared_with_the_tuned_model_answer_by_answer() -> None:
    """Fewer right answers and a higher loss are what was lost, with the pairs' own interval."""
    rows = [a_row(reference) for reference in "abcdefghij"]
    tuned = _scored(rows, list("abcdefghij"), [1.0] * 10)
    worse = _scored(rows, ["x"] * 7 + list("hij"), [4.0] * 10)

    lost = lost_figures(_records(tuned), _records(worse))

    assert lost["scoreDrop"]["value"] == pytest.approx(0.7)
    assert 0.3 < lost["scoreDrop"]["low"] < 0.7 < lost["scoreDrop"]["high"] <= 1
    assert lost["lossIncrease"]["value"] == pytest.approx(1.0)
    assert lost_figures(_records(tuned), _records(tuned))["scoreDrop"]["high"] == 0


def test_the_metric_loss_has_no_score_to_lose() -> None:
    """Its loss is compared all the same."""
    scored = _scored([a_row(), a_row()], ["x", "y"], [6.0, 9.0], Metric.LOSS)

    assert set(lost_figures(_records(scored), _records(scored))) == {"lossIncrease"}


def _scored(rows: list[HeldOut], texts: list[str], totals: list[float], metric: Metric = Metric.EXACT_MATCH) -> Scored:
    answers = [said(text) for text in texts]
    losses = Losses(sum(totals), 3 * len(rows), tuple(RowLoss(total, 3) for total in totals))
    return Scored(metric, rows, answers, score_answers(metric, rows, answers), losses)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        pytest.param([0, 0, 1, 1, 0], 2, id="one answer"),
        pytest.param([0, 1, 1, 0, 0, 1, 1], 5, id="the last of two"),
        pytest.param([0, 0, 0], 3, id="none"),
        pytest.param([1, 1], 0, id="nothing before"),
    ],
)
def test_the_prompt_ends_where_the_last_answer_begins(mask: list[int], expected: int) -> None:
    """The prompt's tokens are those that were prepared, not rendered anew."""
    assert last_answer(mask) == expected


def test_a_row_gives_prompt_and_reference() -> None:
    """All turns but the last, and the last."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    row = held_out("f" * 64, json.dumps(turns), [1, 2, 3, 4], [0, 0, 1, 1])

    assert (row.prompt, row.reference, row.prompt_ids) == (tuple(turns[:1]), "b", (1, 2))


def test_a_plain_text_is_continued_from_its_first_half() -> None:
    """There is no reference answer to a text."""
    row = held_out("f" * 64, json.dumps({"text": "abcd"}), [1, 2, 3, 4], [1, 1, 1, 1])

    assert (row.is_chat, row.prompt_ids) == (False, (1, 2))


def test_prompts_are_chosen_by_hash_and_asked_once(tmp_path: Path) -> None:
    """Neither the order of the rows nor a repeated prompt changes the sample."""
    import pyarrow as pa
    from pyarrow import parquet

    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]
    rows = [
        {"input_ids": [1, 2], "mask": [0, 1], "messages": json.dumps(turns), "prompt_sha": sha * 16}
        for sha in ("c", "a", "b", "a")
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "one.parquet")
    parquet.write_table(pa.Table.from_pylist(rows[::-1]), tmp_path / "other.parquet")

    chosen = [[row.id[0] for row in read_held_out(tmp_path / name, 2)] for name in ("one.parquet", "other.parquet")]

    assert chosen == [["a", "b"], ["a", "b"]]


@pytest.mark.parametrize(("longest", "most", "expected"), [(10, 256, 32), (60, 256, 120), (200, 256, 256), (5, 8, 8)])
def test_an_answer_may_be_twice_the_longest_reference(longest: int, most: int, expected: int) -> None:
    """Never more than the job allows, and room for a sentence."""
    assert token_limit([a_row(answer_tokens=longest), a_row()], most) == expected


def test_a_conversations_context_has_room_for_prompt_and_answer() -> None:
    """In multiples of 256."""
    assert context_for([a_row()], 32) == 512


CONTROL = control_tokens(["<|im_start|>", "hello", "<|im_end|>", ""], [3, 1, 3, 3])


def test_only_the_token_that_ended_an_answer_is_taken_off() -> None:
    """A server with --special spells it out; one in the middle is a leak."""
    assert without_end("Paris.<|im_end|>", CONTROL, stopped=True) == "Paris."
    assert without_end("a<|im_end|>b<|im_end|>", CONTROL, stopped=True) == "a<|im_end|>b"
    assert without_end("cut off <|im_end|>", CONTROL, stopped=False) == "cut off <|im_end|>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Paris is the capital.", []),
        ("Paris.<|im_start|>user", ["<|im_start|>"]),
        ("Paris.<|eot_id|>", ["<|eot_id|>"]),
        ("Paris.\nuser\nAnd Peru?", ["user"]),
        ("Paris.\nUser: And Peru?", ["User:"]),
        ("### Instruction\nSay hello", ["### Instruction"]),
        ("[INST] hello [/INST]", ["[/INST]", "[INST]"]),
        ("<start_of_turn>model", ["<start_of_turn>"]),
        ("if a <| b |> c", []),
        ("my user asked for it", []),
    ],
)
def test_markup_of_any_chat_format_is_a_leak(text: str, expected: list[str]) -> None:
    """The model's own control tokens and those of the formats in use."""
    assert leaks(text, "", CONTROL) == expected


def test_markup_that_was_asked_for_is_no_leak() -> None:
    """A dataset about chat templates talks of them."""
    assert leaks("It is <|im_start|>.", "Which token begins a turn? <|im_start|>", CONTROL) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("no " * 20, True, id="one word"),
        pytest.param("It is Paris. And then " * 6, True, id="a phrase"),
        pytest.param("first a thing, then " + "so it goes on and on " * 5, True, id="after a beginning"),
        pytest.param("very very very good", False, id="emphasis"),
        pytest.param("one two three four five six seven eight nine ten eleven twelve thirteen", False, id="none"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_an_answer_that_goes_in_circles_is_seen(text: str, expected: bool) -> None:
    """Four times the same in a row, over twelve words."""
    assert loops(text) is expected


def test_the_figures_of_answers_count_each_fault() -> None:
    """Stopped is the model's own end; clean has no fault at all."""
    rows = [a_row() for _ in range(5)]
    answers = [said("yes"), said("yes", stopped=False), said(" "), said("no " * 20), said("yes<|im_start|>")]

    found = answer_figures(rows, answers, CONTROL)

    assert {name: found[name] for name in ("answered", "stopped", "clean", "leaks", "empty", "loops")} == {
        "answered": 5,
        "stopped": 4,
        "clean": 1,
        "leaks": 1,
        "empty": 1,
        "loops": 1,
    }
    assert found["leaked"] == ["<|im_start|>"]


def test_a_continued_text_need_not_end() -> None:
    """Silence is a fault of it; going on, or in circles, is what greedy continuations do."""
    text = HeldOut("0" * 16, (), "", (1, 2), (1, 2, 3, 4), (1, 1, 1, 1))
    answers = [said("no " * 20, stopped=False), said("and so on", stopped=False), said("")]

    assert answer_figures([text] * 3, answers, CONTROL)["clean"] == 2


def test_only_control_tokens_are_markup_in_a_text() -> None:
    """What chat formats write in letters are words of a text; a control token that the text itself has is meant."""
    text = HeldOut("0" * 16, (), "", (1, 2), (1, 2, 3, 4), (1, 1, 1, 1), "User: what?\n### Response<|im_end|>")
    answers = [said("User: so\n### Instruction"), said("done<|im_end|>\nAnd"), said("done<|im_start|>")]

    found = answer_figures([text] * 3, answers, CONTROL)

    assert (found["leaks"], found["leaked"]) == (1, ["<|im_start|>"])
