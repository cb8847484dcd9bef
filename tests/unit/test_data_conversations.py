"""A row in, a conversation out: the five formats, found by their columns, and every way in which a row can be wrong."""

from typing import Any

import pytest

from support.preparing import say
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.sources import ChatFormat, Columns
from tunesmith_trainer.data.columns import absent_columns, mapping
from tunesmith_trainer.data.conversations import detect, understand
from tunesmith_trainer.data.rows import RowError

GOOD: list[tuple[ChatFormat, dict[str, Any], object]] = [
    (ChatFormat.MESSAGES, {"messages": list(say("Hi", "Ho", system="S"))}, say("Hi", "Ho", system="S")),
    (
        ChatFormat.MESSAGES,
        {"messages": [{"role": "user", "content": "Hi", "tool_calls": None}, {"role": "assistant", "content": "Ho"}]},
        say("Hi", "Ho"),
    ),
    (
        ChatFormat.MESSAGES,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, *say("", "Ho")[1:]]},
        say("Hi", "Ho"),
    ),
    (ChatFormat.MESSAGES, {"messages": '[{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}]'}, None),
    (ChatFormat.MESSAGES, {"messages": list(say("Hi", "Ho", system=" "))}, say("Hi", "Ho")),
    (
        ChatFormat.SHAREGPT,
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}], "system": "S"},
        say("Hi", "Ho", system="S"),
    ),
    (
        ChatFormat.SHAREGPT,
        {
            "conversations": [
                {"from": "system", "value": "S"},
                {"from": "user", "value": "Hi"},
                {"from": "model", "value": "Ho"},
            ]
        },
        say("Hi", "Ho", system="S"),
    ),
    (ChatFormat.ALPACA, {"instruction": "Hi", "input": "", "output": "Ho"}, say("Hi", "Ho")),
    (
        ChatFormat.ALPACA,
        {"instruction": "Add", "input": "1 2", "output": "3", "system": "S", "history": [["a", "b"]]},
        say("a", "b", "Add\n\n1 2", "3", system="S"),
    ),
    (ChatFormat.PROMPT_COMPLETION, {"prompt": "Hi", "completion": "Ho"}, say("Hi", "Ho")),
    (
        ChatFormat.PROMPT_COMPLETION,
        {"prompt": list(say("Hi", system="S")), "completion": [{"role": "assistant", "content": "Ho"}]},
        say("Hi", "Ho", system="S"),
    ),
    (ChatFormat.TEXT, {"text": "Just words."}, "Just words."),
]


@pytest.mark.parametrize(("wanted", "columns", "expected"), GOOD)
def test_every_format_is_found_by_its_columns_and_understood(
    wanted: ChatFormat, columns: dict[str, Any], expected: object
) -> None:
    """A row in any of the formats becomes the same kind of conversation."""
    assert wanted == detect(columns)
    assert (expected or say("Hi", "Ho")) == understand(columns, wanted)


def test_nulls_that_a_table_fills_in_are_no_fields() -> None:
    """P13: Parquet gives every row all fields that any row has; a template would write out a null tool call."""
    nulls = {"tool_calls": None, "name": None}
    row = {"messages": [{**message, **nulls} for message in say("Hi", "Ho")], "tools": None, "images": None}

    assert understand(row, ChatFormat.MESSAGES) == say("Hi", "Ho")


def test_unknown_columns_are_of_no_format() -> None:
    """Preference data and free columns are not guessed at."""
    assert detect(["chosen", "rejected", "question"]) is None


BAD: list[tuple[list[dict[str, Any]], str]] = [
    ([], "no turns"),
    ([{"role": "user", "content": "Hi"}], "does not end with an answer"),
    ([{"role": "assistant", "content": "Ho"}], "do not take turns"),
    ([*say("a"), *say("b"), *say("", "c")[1:]], "do not take turns"),
    ([*say("a", "b"), {"role": "assistant", "content": "c"}], "do not take turns"),
    ([*say("a", "b"), {"role": "system", "content": "c"}, *say("d", "e")], "turn 3 is a system turn"),
    (list(say("a", " \n")), r"turn 2 \(assistant\) is empty"),
    (list(say("", "a")), r"turn 1 \(user\) is empty"),
    ([{"role": "gpt", "content": "Hi"}], "of the role 'gpt'; known are system, user, assistant"),
    ([{"role": "tool", "content": "Hi"}], "tools are not trained"),
    ([{"role": ["user"], "content": "Hi"}], "no role that is a text"),
    ([{"role": "user", "content": None}], "no content"),
    ([{"role": "user", "content": [{"type": "image"}]}], "no text"),
    ([*say("a"), {"role": "assistant", "content": "b", "tool_calls": [{"id": 1}]}], "tool_calls"),
]


@pytest.mark.parametrize(("turns", "said"), BAD)
def test_what_is_no_conversation_to_train_on_is_refused_with_the_reason(turns: list[dict[str, Any]], said: str) -> None:
    """Roles, order, emptiness, tools and pictures are checked turn by turn."""
    with pytest.raises(RowError, match=said):
        understand({"messages": turns}, ChatFormat.MESSAGES)


@pytest.mark.parametrize(
    ("columns", "wanted", "said"),
    [
        ({"messages": "no list"}, ChatFormat.MESSAGES, "no list"),
        ({"mesages": []}, ChatFormat.MESSAGES, "messages is missing; the row has 'mesages'"),
        ({"messages": [1]}, ChatFormat.MESSAGES, "turn 1 is no object"),
        ({"conversations": [{"from": "function_call", "value": "x"}]}, ChatFormat.SHAREGPT, "tools are not"),
        ({"instruction": "a", "output": None}, ChatFormat.ALPACA, "output is missing"),
        ({"instruction": "a", "output": "b", "history": [["a"]]}, ChatFormat.ALPACA, "no pair"),
        ({"prompt": "a", "completion": 3}, ChatFormat.PROMPT_COMPLETION, "completion is no text"),
        ({"text": " "}, ChatFormat.TEXT, "empty"),
        ({"messages": list(say("a", "b")), "tools": [{}]}, ChatFormat.MESSAGES, "has tools"),
    ],
)
def test_a_row_that_does_not_fit_its_format_is_refused(columns: dict[str, Any], wanted: ChatFormat, said: str) -> None:
    """The reason names the column."""
    with pytest.raises(RowError, match=said):
        understand(columns, wanted)


def test_columns_are_named_or_written_as_jinja() -> None:
    """A manifest can name columns and build a prompt of several."""
    mapped = mapping(Columns(prompt="{{ title }}: {{ body }}\n", completion="label", system="rule"), ChatFormat.AUTO)

    assert mapped({"title": "T", "body": "B", "label": 3, "rule": "R"}) == {
        "prompt": "T: B\n",
        "completion": "3",
        "system": "R",
    }


def test_a_text_column_of_another_name_can_be_named() -> None:
    """With the format Text the completion is the text."""
    assert mapping(Columns(completion="body"), ChatFormat.TEXT)({"body": "words"}) == {"text": "words"}


@pytest.mark.parametrize(
    ("template", "row", "said"),
    [
        ("{{ title }}: {{ body }}", {"title": "x", "body": None}, "the column body is null"),
        ("{{ title ~ body }}", {"title": "x", "body": None}, "the column body is null"),
        ("{{ body | upper }}", {"body": None}, "the column body is null"),
        ("{{ body.lines }}", {"body": None}, "the column body is null"),
        ("{{ body.text }}", {"body": {"text": None}}, "is null"),
        ("{% if text %}{{ text }}{% endif %}", {"body": "x"}, "'text' is undefined"),
    ],
)
def test_an_empty_cell_is_not_written_as_a_word(template: str, row: dict[str, Any], said: str) -> None:
    """Null is missing, as it is for a column that is named alone; a name that no column has is another fault."""
    with pytest.raises(RowError, match=said):
        mapping(Columns(prompt=template, completion="{{ 1 }}"), ChatFormat.AUTO)(row)


@pytest.mark.parametrize(
    "template",
    [
        "x{% if body %}: {{ body }}{% endif %}",
        "x{{ body | default('') }}",
        "x{{ body or '' }}",
        "x{% if body is not none %}: {{ body }}{% endif %}",
        "x{% if body is defined %}: {{ body }}{% endif %}",
    ],
)
def test_a_template_may_say_what_an_empty_cell_means(template: str) -> None:
    """It asks whether there is something."""
    mapped = mapping(Columns(prompt=template, completion="{{ 1 }}"), ChatFormat.AUTO)

    assert mapped({"body": None})["prompt"] == "x"


@pytest.mark.parametrize(
    "template",
    [
        "{{ {'a': 1}[label] }}",
        "{{ label.b.c }}",
        "{{ label | int + label }}",
        "{{ [1][label] }}",
        "{{ label | round }}",
    ],
)
def test_a_reason_quotes_no_cell(template: str) -> None:
    """Reasons stand in the report that is published with the files (invariant 7 is about more than keys)."""
    with pytest.raises(RowError, match="does not fit the Jinja") as caught:
        mapping(Columns(prompt=template, completion="{{ 1 }}"), ChatFormat.AUTO)({"label": "a secret"})

    assert "secret" not in str(caught.value)


def test_absent_columns_are_named() -> None:
    """Jinja texts are not taken for names of columns."""
    columns = Columns(prompt="question", completion="{{ answer }}")

    assert absent_columns(columns, ChatFormat.AUTO, ["answer", "frage"]) == {"prompt": "question"}


def test_columns_that_are_left_as_usual_are_missed_too() -> None:
    """A row without them is of no use, and every row would say so."""
    assert absent_columns(Columns(prompt="frage"), ChatFormat.AUTO, ["frage"]) == {"completion": "completion"}
    assert absent_columns(Columns(system="who"), ChatFormat.TEXT, ["who"]) == {"text": "text"}
    assert absent_columns(Columns(prompt="p"), ChatFormat.TEXT, ["q"]) == {"prompt": "p"}


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ body.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{{ nothing }}",
        "{{ rows.append(1) }}",
    ],
)
def test_a_hostile_or_broken_jinja_text_costs_the_row_and_runs_nothing(template: str) -> None:
    """The sandbox gives no way out of the row's own columns."""
    mapped = mapping(Columns(prompt=template, completion="body"), ChatFormat.AUTO)

    with pytest.raises(RowError, match="does not fit the Jinja"):
        mapped({"body": "b", "rows": []})


def test_a_jinja_text_that_cannot_be_parsed_is_the_manifests_fault() -> None:
    """It is refused before any row is read."""
    with pytest.raises(StageFailure) as caught:
        mapping(Columns(prompt="{{ open"), ChatFormat.AUTO)

    assert caught.value.failure is FailureClass.SPEC_INVALID


def test_columns_do_not_go_with_formats_that_have_their_own() -> None:
    """Naming columns of a row of messages makes no sense."""
    with pytest.raises(StageFailure, match="not with Messages"):
        mapping(Columns(prompt="a"), ChatFormat.MESSAGES)
