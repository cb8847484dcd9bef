"""Names of columns that look right and are not are told, with what to write."""

import pytest

from tunesmith_api.failures import StageFailure
from tunesmith_api.settings import DatasetSettings
from tunesmith_trainer.data.formats import format_of
from tunesmith_trainer.data.names import near_hint, quoted
from tunesmith_trainer.data.rows import Place, Row

USUAL = {"prompt": "prompt", "completion": "completion"}


def _refused(file: str, names: list[str], **settings: object) -> StageFailure:
    told = DatasetSettings.model_validate({"digest": "d"} | settings)
    with pytest.raises(StageFailure) as caught:
        format_of(Row(Place(file, 2), dict.fromkeys(names, "x")), told)
    return caught.value


def test_names_are_quoted_few_and_short() -> None:
    """The first row of a CSV without a header is not repeated at length."""
    assert quoted(["prompt", " completion", "a\tb"]) == "'prompt', ' completion', 'a\\tb'"
    assert quoted([]) == "none"
    assert quoted(["x" * 50]) == f"'{'x' * 40}…'"
    assert quoted(map(str, range(25))).endswith("'19', 5 more")


@pytest.mark.parametrize(
    ("wanted", "present", "said"),
    [
        (USUAL, ["prompt", " completion"], "Column ' completion' begins with a space: rename it, or write columns: "),
        (USUAL, ["prompt", " completion"], 'columns: {completion: " completion"}.'),
        (USUAL, ["Prompt", "completion "], 'columns: {prompt: "Prompt", completion: "completion "}.'),
        (USUAL, ["Prompt", "completion "], "differs from 'prompt' in case, column 'completion ' ends with a space: r"),
        ({"prompt": "frage"}, ["Frage "], "Column 'Frage ' differs from 'frage' in white space or case"),
        ({"prompt": "frage"}, ["\tfrage"], "begins with white space"),
        ({"text": "text"}, ["Text"], "in case: rename it."),
        (USUAL, ["question", "answer"], ""),
    ],
)
def test_a_name_that_differs_in_white_space_or_case_is_told(
    wanted: dict[str, str], present: list[str], said: str
) -> None:
    """With what may be pasted into the manifest, where a column can be mapped."""
    hint = near_hint({role: name for role, name in wanted.items() if name not in present}, present)

    assert said in hint
    assert bool(said) == bool(hint)


def test_the_format_that_is_nearly_there_is_the_one_that_is_meant() -> None:
    """Of formats of other columns nothing is said."""
    hint = _refused("rows.csv", ["id", "Prompt", " completion"]).hint

    assert hint.startswith("Column ' completion' begins with a space, column 'Prompt' differs")
    assert 'columns: {completion: " completion", prompt: "Prompt"}' in hint


def test_what_a_csv_takes_for_names_is_said() -> None:
    """A CSV without a header; a JSONL file has its names in every row."""
    assert "The first line of a CSV is taken" in _refused("rows.csv", ["Hello", "Hi there"]).hint
    assert "first line" not in _refused("rows.jsonl", ["frage"]).hint


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"columns": {"prompt": "frage"}}, "has no column 'completion', and columns names no other for it"),
        ({"columns": {"prompt": "Frage", "completion": "antwort"}}, "has no column 'Frage', which columns names"),
        ({"format": "PromptCompletion"}, "has no column 'completion', 'prompt', which the format PromptCompletion"),
    ],
)
def test_an_absent_column_is_told_once_for_all_rows(settings: dict[str, object], said: str) -> None:
    """Not row by row; with the names that there are."""
    failure = _refused("rows.csv", ["frage", "antwort"], **settings)

    assert said in failure.message
    assert failure.message.endswith("its columns are: 'antwort', 'frage'")


def test_what_the_manifest_maps_already_stays_in_what_may_be_pasted() -> None:
    """And of a column that nothing looks like, it is said how to map it."""
    hint = _refused("rows.csv", ["frage", " completion"], columns={"prompt": "frage", "completion": "completion"}).hint
    assert 'write columns: {prompt: "frage", completion: " completion"}.' in hint

    hint = _refused("rows.csv", ["Frage", "ans"], columns={"prompt": "frage", "completion": "antwort"}).hint
    assert "column 'Frage' differs" in hint.replace("Column", "column")
    assert "Say which column is what" in hint


def test_a_column_of_the_usual_name_may_stand_in_other_rows() -> None:
    """Rows of JSON have names of their own each: the first one alone decides nothing."""
    settings = DatasetSettings.model_validate({"digest": "d", "columns": {"prompt": "q"}})
    format_of(Row(Place("rows.jsonl", 1), {"q": "a"}), settings)
