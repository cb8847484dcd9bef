"""What `tunesmith chat` sends first, and how it reads llama-server's event stream."""

import json

import pytest

from tunesmith.cli.chat import first_messages, piece_of
from tunesmith_api.failures import StageFailure


@pytest.mark.parametrize(
    ("trained", "given", "first"),
    [
        ("Be brief.", None, "Be brief."),
        ("Be brief.", "Be odd", "Be odd"),
        ("Be brief.", "", None),
        (None, None, None),
    ],
)
def test_the_model_is_asked_as_it_was_trained(trained: str | None, given: str | None, first: str | None) -> None:
    """With the system prompt of the training, as Ollama does from the Modelfile, unless another is given."""
    messages = first_messages({"dataset": {"systemPrompt": trained}}, given)

    assert messages == ([{"role": "system", "content": first}] if first else [])


def test_text_comes_in_pieces() -> None:
    """Lines of other kinds, and pieces without text, add nothing."""
    event = {"choices": [{"delta": {"content": "Hi"}}]}

    assert piece_of("data: " + json.dumps(event)) == "Hi"
    assert piece_of('data: {"choices": [{"delta": {"content": null}}]}') == ""
    assert piece_of('data: {"choices": []}') == ""
    assert [piece_of(line) for line in ("", ": ping", "data: [DONE]")] == ["", "", ""]


@pytest.mark.parametrize(
    "line", ['data: {"error": {"message": "the context is full"}}', 'error: {"message": "the context is full"}']
)
def test_an_error_in_the_stream_is_told(line: str) -> None:
    """llama-server says so in the middle of an answer too."""
    with pytest.raises(StageFailure, match="the context is full"):
        piece_of(line)
