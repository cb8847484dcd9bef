"""Rows into parts: no prompt in two of them, whatever the order; sizes, limits, weights; exact duplicates removed."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.preparing import chats, numbered_datasets, prepare_settings, say, write_rows
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.settings import DatasetSettings, PrepareSettings
from tunesmith_api.training import SystemPrompt
from tunesmith_trainer.data.check import check_dataset
from tunesmith_trainer.data.conversations import Example
from tunesmith_trainer.data.gather import (
    EVALUATION,
    Gathered,
    Index,
    gather,
    merged_system,
    prompt_text,
    row_digest,
    with_system,
)
from tunesmith_trainer.data.rows import RowError
from tunesmith_trainer.data.split import LEAST, USED, Part, Split, check_sizes, rates, split, times

SETTINGS = prepare_settings()


def _index(rows: list[tuple[int, str, str]]) -> Index:
    """An index of (dataset, question, answer)."""
    index = Index()
    for dataset, question, answer in rows:
        example = say(question, answer)
        index.datasets.append(dataset)
        index.rows.append(row_digest(example))
        index.prompts.append(row_digest(prompt_text(example)))
    return index


def _by_row(index: Index, result: Split) -> dict[bytes, Part]:
    return {row: result.of(place) for place, row in enumerate(index.rows)}


# 80 different questions, of which up to 20 are asked again up to 60 times: enough single ones to fill every part.
questions = st.lists(st.integers(0, 19), max_size=60).map(lambda again: [*map(str, range(80)), *map(str, again)])


@settings(max_examples=60, deadline=None)
@given(questions, st.integers(0, 5), st.sampled_from([1.0, 10.0, 20.0]), st.randoms(use_true_random=False))
def test_parts_share_no_prompt_and_do_not_depend_on_the_order(
    asked: list[str], seed: int, percent: float, random
) -> None:
    """For any rows, seed and share: disjoint, deterministic, independent of the order, of the stated size."""
    rows = [(0, question, f"{place} of {question}") for place, question in enumerate(asked)]
    shuffled = random.sample(rows, len(rows))
    told = prepare_settings(seed=seed, evaluation_percent=percent)
    index, other = _index(rows), _index(shuffled)

    result = split(index, told)

    parts = {part: {p for place, p in enumerate(index.prompts) if result.of(place) is part} for part in USED}
    assert not parts[Part.TRAIN] & parts[Part.EVAL]
    assert not parts[Part.TRAIN] & parts[Part.GATE]
    assert not parts[Part.EVAL] & parts[Part.GATE]
    assert _by_row(index, result) == _by_row(other, split(other, told))
    assert max(LEAST["eval"], round(len(rows) * percent / 100)) == result.count(Part.EVAL)
    assert max(LEAST["gate"], round(len(rows) * percent / 200)) == result.count(Part.GATE)


def test_another_seed_holds_out_other_rows() -> None:
    """The seed decides."""
    index = _index([(0, str(n), "a") for n in range(200)])

    held = [_held(index, prepare_settings(seed=seed)) for seed in (1, 2)]

    assert held[0] != held[1]


def _held(index: Index, told: PrepareSettings) -> set[bytes]:
    result = split(index, told)
    return {index.prompts[p] for p in range(len(index.rows)) if result.of(p) is Part.EVAL}


def test_a_prompt_that_most_rows_share_is_trained_on_and_does_not_fill_a_part() -> None:
    """A greeting that begins half of the conversations leaves the held-out part varied."""
    index = _index([(0, "Hello", f"answer {n}") for n in range(150)] + [(0, f"question {n}", "a") for n in range(150)])

    result = split(index, SETTINGS)

    assert result.count(Part.EVAL) == 30
    greeting = index.prompts[0]
    assert {Part.TRAIN} == {result.of(p) for p, prompt in enumerate(index.prompts) if prompt == greeting}


def test_few_different_prompts_are_too_small_with_the_numbers() -> None:
    """A thousand rows that ask the same two things cannot be split."""
    index = _index([(0, str(n % 2), f"answer {n}") for n in range(1000)])

    with pytest.raises(StageFailure, match="2 different prompts are too few: 0 for eval") as caught:
        split(index, SETTINGS)

    assert caught.value.failure is FailureClass.DATASET_TOO_SMALL


def test_the_least_number_of_rows_is_enough_and_one_less_is_not() -> None:
    """The bound that the failure states is the real one."""
    least = sum(LEAST.values())

    split(_index([(0, str(n), "a") for n in range(least)]), SETTINGS)
    with pytest.raises(StageFailure, match=f"15 for train \\(at least {LEAST['train']}\\)"):
        split(_index([(0, str(n), "a") for n in range(least - 1)]), SETTINGS)


def test_an_evaluation_dataset_is_held_out_whole_and_its_prompts_are_trained_nowhere() -> None:
    """Rows that share a prompt with it are dropped from training, and counted."""
    own = [(0, str(n), "trained") for n in range(100)]
    held = [(EVALUATION, str(n), "held out") for n in range(90, 120)]
    told = prepare_settings(evaluation=DatasetSettings(digest="sha256:e"))

    index = _index(own + held)
    result = split(index, told)

    assert result.count(Part.EVAL) == 30
    assert result.count(Part.OVERLAP) == 10
    assert {Part.EVAL} == {result.of(place) for place in range(100, 130)}


def test_rows_of_the_evaluation_dataset_that_are_trained_too_are_held_out(tmp_path: Path) -> None:
    """What was named to measure with is measured with; its copies among the training rows are the ones to go."""
    rows = [{"prompt": f"How much is {n}?", "completion": f"It is {n}."} for n in range(100)]
    write_rows(tmp_path / "0", rows)
    write_rows(tmp_path / "evaluation", rows[:30])
    told = prepare_settings(evaluation=DatasetSettings(digest="sha256:e"))

    gathered = _gather(tmp_path, told)
    result = split(gathered.index, told)

    held = {spooled.place.number for at, spooled in enumerate(gathered) if result.of(at) is Part.EVAL}
    assert held == set(range(1, 31))
    assert (result.count(Part.EVAL), gathered.tally.duplicates) == (30, 30)


def test_an_evaluation_dataset_of_too_few_rows_is_not_filled_up_with_others() -> None:
    """What the job is judged by is what its author named, or nothing."""
    told = prepare_settings(evaluation=DatasetSettings(digest="sha256:e"))
    own = [(0, str(n), "trained") for n in range(100)]

    with pytest.raises(StageFailure, match="3 for eval"):
        split(_index([(EVALUATION, str(n), "held out") for n in range(3)] + own), told)


def test_max_examples_takes_a_sample_that_grows_with_the_number() -> None:
    """A quick test's rows are among those of the full run, whatever the order of the file."""
    rows = [(0, str(n), "a") for n in range(300)]
    index = _index(rows)
    few, more = (
        split(index, prepare_settings(datasets=(DatasetSettings(digest="d", max_examples=count),)))
        for count in (50, 100)
    )

    used = [{index.rows[p] for p in range(300) if result.of(p) is not Part.LEFT_OUT} for result in (few, more)]

    assert [len(one) for one in used] == [50, 100]
    assert used[0] < used[1]
    assert used[0] != set(index.rows[:50])


def test_weights_repeat_and_thin_out_by_the_largest_dataset() -> None:
    """A dataset of three times the weight of the largest is seen three times; one of half, half of it."""
    index = _index(
        [(number, f"{number}-{n}", "a") for number, count in ((0, 2000), (1, 500), (2, 500)) for n in range(count)]
    )
    result = split(index, prepare_settings(datasets=numbered_datasets(3)))

    seen = rates(index, result, {0: 1.0, 1: 3.0, 2: 0.5})

    assert seen == {0: 1.0, 1: 3.0, 2: 0.5}
    assert {times(3.0, row, 1) for row in index.rows} == {3}
    half = sum(times(0.5, row, 1) for row in index.rows)
    assert 1350 < half < 1650
    assert [times(0.5, row, 1) for row in index.rows] == [times(0.5, row, 1) for row in index.rows]


def test_sizes_after_dropping_name_the_part_that_is_short() -> None:
    """What is left after too long rows were dropped is checked again."""
    with pytest.raises(StageFailure, match="7 for eval") as caught:
        check_sizes({"train": 100, "eval": 7, "gate": 9}, "of at most 64 tokens", "Raise training.maxSequenceLength")
    assert caught.value.hint.startswith("Raise training.maxSequenceLength: 28 different prompts are the least")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (say("What  is\nit?", "a"), say("what is it?", "b"), True),
        (say("Caf\u00e9", "a"), say("Cafe\u0301", "b"), True),
        (say("Hi", "a", "then?", "b"), say("hi", "c"), True),
        (say("Hi", "a", system="S"), say("Hi", "a"), False),
        (say("Hi", "a", system="S"), merged_system(say("Hi", "a", system="S")), True),
        (say("Hi", "a"), say("Hi!", "a"), False),
        ("Some text", "some  TEXT", True),
    ],
)
def test_what_counts_as_the_same_prompt(one: Example, other: Example, same: bool) -> None:
    """Case, white space and Unicode form do not count; what follows the first question does not either."""
    assert same == (prompt_text(one) == prompt_text(other))


def _gather(folder: Path, told: PrepareSettings = SETTINGS) -> Gathered:
    return gather(folder, folder / "spool", told, lambda example: with_system(example, told.system_prompt))


def test_exact_duplicates_are_removed_and_counted_with_their_places(tmp_path: Path) -> None:
    """The first of equal rows stays; an equal prompt with another answer is no duplicate."""
    rows = chats(3)
    write_rows(tmp_path / "0", [*rows, rows[1], {"messages": list(say("What is 1 squared?", "One."))}, rows[0]])

    gathered = _gather(tmp_path)

    assert gathered.tally.duplicates == 2
    assert [place.number for place in gathered.tally.duplicate_places] == [4, 6]
    assert [row.place.number for row in gathered] == [1, 2, 3, 5]


def test_the_spool_gives_back_what_was_gathered(tmp_path: Path) -> None:
    """Content, place and dataset survive, whatever the characters."""
    odd = say("\u2028 „x“ 👩‍👩‍👧", "a\n\r\tb", system="S")
    write_rows(tmp_path / "0", [{"messages": list(odd)}])
    write_rows(tmp_path / "1", [{"text": "words"}], name="t.jsonl")

    first, second = list(_gather(tmp_path, prepare_settings(datasets=numbered_datasets(2))))

    assert (odd, 0, "rows.jsonl") == (first.example, first.dataset, first.place.file)
    assert (second.example, second.dataset, second.place.file) == ("words", 1, "t.jsonl")


def test_half_a_surrogate_pair_is_a_bad_row_and_no_crash(tmp_path: Path) -> None:
    """JSON can spell what is no character; no tokenizer can read it."""
    write_rows(
        tmp_path / "0",
        ['{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"\\ud83d"}]}', *chats(1)],
    )

    tally = _gather(tmp_path).tally

    assert tally.invalid == 1
    assert "surrogate" in tally.problems[0].reason
    with pytest.raises(RowError):
        row_digest("\ud83d")


def test_columns_that_fit_no_format_are_named(tmp_path: Path) -> None:
    """The failure says which columns were seen and how to say what they are."""
    write_rows(tmp_path / "0", [{"frage": "a", "antwort": "b"}])

    with pytest.raises(StageFailure, match=r"its columns are: 'antwort', 'frage'") as caught:
        _gather(tmp_path)

    assert caught.value.failure is FailureClass.DATASET_INVALID
    assert "datasets[].columns" in caught.value.hint


@pytest.mark.parametrize("mode", ["Keep", "None", "Text"])
def test_system_prompts_are_kept_removed_or_replaced(mode: str) -> None:
    """P11: what is trained with is what the manifest says."""
    policy = SystemPrompt.model_validate({"mode": mode} | ({"text": "New"} if mode == "Text" else {}))
    with_one, without = say("Hi", "Ho", system="Old"), say("Hi", "Ho")

    expected = {"Keep": (with_one, without), "None": (without, without), "Text": (say("Hi", "Ho", system="New"),) * 2}

    assert expected[mode] == (with_system(with_one, policy), with_system(without, policy))


def test_checking_lists_every_problem_with_its_line_and_needs_no_model(tmp_path: Path) -> None:
    """What `validate` says of a dataset."""
    write_rows(tmp_path / "0", [*chats(40), "{broken", {"messages": [{"role": "user", "content": "x"}]}])

    found = check_dataset(tmp_path, SETTINGS)

    assert [p.what.split(": ")[0].rpartition(", ")[2] for p in found.problems] == ["line 41", "line 42"]
    assert found.rows == {"read": 42, "invalid": 2, "duplicates": 0, "train": 28, "eval": 8, "gate": 4}
    assert json.loads(json.dumps(found.to_json_dict()))["formats"] == ["Messages"]


def test_checking_finds_no_fault_in_a_good_dataset(tmp_path: Path) -> None:
    """A dataset that prepare takes has no problems."""
    write_rows(tmp_path / "0", chats(60))

    assert check_dataset(tmp_path, SETTINGS).problems == ()
