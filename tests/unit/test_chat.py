"""What `tunesmith chat` sends first, and how it reads llama-server's event stream."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.cli import called
from support.llama_cpp_folders import a_chatting_server
from support.waiting import wait_until
from tunesmith.cli.answering import Piece, Sampling, client_of, of_conversation, of_text, piece_of
from tunesmith.cli.chat import answer, chosen_file, first_messages
from tunesmith.llama_cpp.tools import EXECUTABLES
from tunesmith_api.failures import FailureClass, StageFailure

HELLO = [{"role": "user", "content": "Hi"}]


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

    assert piece_of("data: " + json.dumps(event)) == Piece("Hi")
    assert piece_of('data: {"choices": [{"text": "and so", "finish_reason": "length"}]}') == Piece("and so", cut=True)
    others = (
        'data: {"choices": [{"delta": {"content": null}}]}',
        'data: {"choices": []}',
        "",
        ": ping",
        "data: [DONE]",
    )
    assert {piece_of(line) for line in others} == {Piece()}


def test_an_answer_that_is_cut_off_says_so() -> None:
    """At the most tokens or at the context's end; one that came to its end does not."""
    ends = [f'data: {{"choices": [{{"delta": {{}}, "finish_reason": "{why}"}}]}}' for why in ("length", "stop")]

    assert [piece_of(end) for end in ends] == [Piece(cut=True), Piece()]


def test_a_conversation_that_the_model_cannot_read_is_no_defect() -> None:
    """With how long it is, as llama-server counts."""
    error = {"type": "exceed_context_size_error", "message": "...", "n_prompt_tokens": 9000, "n_ctx": 8192}
    with pytest.raises(StageFailure, match="has 9000 tokens, and the model reads 8192") as caught:
        piece_of("data: " + json.dumps({"error": error}))

    assert caught.value.failure is FailureClass.SPEC_INVALID


@pytest.mark.parametrize(
    "line", ['data: {"error": {"message": "the context is full"}}', 'error: {"message": "the context is full"}']
)
def test_an_error_in_the_stream_is_told(line: str) -> None:
    """llama-server says so in the middle of an answer too."""
    with pytest.raises(StageFailure, match="the context is full"):
        piece_of(line)


class OnceThenGone(BaseHTTPRequestHandler):
    """Streams one answer, promises to keep the connection and hangs up at whatever else comes over it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """One answer, in one event."""
        if getattr(self, "answered", False) or next(self.server.left, None) is None:  # type: ignore[attr-defined]
            self.close_connection = True
            return
        self.answered = True
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(json.loads(body))  # type: ignore[attr-defined]
        event = "data: " + json.dumps({"choices": [{"delta": {"content": "Hi"}}]}) + "\n\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(f"{len(event):x}\r\n{event}\r\n0\r\n\r\n".encode())

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A server that answers once per connection; `left` says how often in all, `asked` is what it was sent."""
    with ThreadingHTTPServer(("127.0.0.1", 0), OnceThenGone) as found:
        found.left, found.asked = count(), []  # type: ignore[attr-defined]
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def test_a_server_that_hangs_up_after_an_answer_is_asked_on(server: ThreadingHTTPServer) -> None:
    """Each question has a connection of its own."""
    with client_of(f"http://127.0.0.1:{server.server_port}") as client:
        assert [answer(client, of_conversation(HELLO), Sampling()) for _ in range(4)] == ["Hi"] * 4


def test_a_template_that_writes_the_date_gets_the_day_of_the_training(server: ThreadingHTTPServer) -> None:
    """P10: as where it was measured; with today's date the model would be asked otherwise every day."""
    with client_of(f"http://127.0.0.1:{server.server_port}") as client:
        answer(client, of_conversation(HELLO), Sampling())

    (asked,) = server.asked  # type: ignore[attr-defined]
    assert asked["messages"] == [{"role": "user", "content": "Hi"}]
    assert asked["chat_template_kwargs"] == {"date_string": "26 Jul 2024"}


def test_an_answer_has_a_bound(server: ThreadingHTTPServer) -> None:
    """A model that does not stop would go on to the end of its context."""
    with client_of(f"http://127.0.0.1:{server.server_port}") as client:
        answer(client, of_text("Once"), Sampling(0.5, 7))

    (asked,) = server.asked  # type: ignore[attr-defined]
    assert (asked["max_tokens"], asked["temperature"]) == (7, 0.5)


def test_a_server_that_is_gone_is_a_sentence(server: ThreadingHTTPServer) -> None:
    """With a hint, and no traceback."""
    server.left = iter([1])  # type: ignore[attr-defined]
    with client_of(f"http://127.0.0.1:{server.server_port}") as client:
        answer(client, of_text("Once"), Sampling())
        with pytest.raises(StageFailure, match="llama-server broke off the conversation") as caught:
            answer(client, of_text("Once"), Sampling())

    assert "tunesmith chat" in caught.value.hint


def a_report(*files: tuple[str, str, bool]) -> dict[str, Any]:
    """Files by type, verdict and whether they are published."""
    return {
        "dataset": {"systemPrompt": "Be brief."},
        "files": [
            {"name": f"bot-{type_}.gguf", "type": type_, "verdict": verdict, "published": published}
            for type_, verdict, published in files
        ],
    }


THREE = a_report(("Q4_0", "Failed", False), ("Q4_K_M", "Failed", True), ("Q8_0", "Passed", True))


@pytest.mark.parametrize(
    ("type_", "file"), [(None, "bot-Q8_0.gguf"), ("Q4_K_M", "bot-Q4_K_M.gguf"), ("q4_k_m", "bot-Q4_K_M.gguf")]
)
def test_the_file_of_a_type_is_chosen_or_the_first_that_passed(type_: str | None, file: str) -> None:
    """In any case of letters; one that failed and is published all the same can be asked for."""
    assert chosen_file(THREE, type_) == file


@pytest.mark.parametrize(
    ("report", "type_", "said"),
    [
        (THREE, "Q5_K_M", "no published Q5_K_M; there is Q4_K_M, Q8_0"),
        (THREE, "Q4_0", "no published Q4_0; there is Q4_K_M, Q8_0"),
        (a_report(("Q4_0", "Failed", False)), None, "no published file; there is no file"),
    ],
)
def test_a_type_that_is_not_there_is_told_with_those_that_are(
    report: dict[str, Any], type_: str | None, said: str
) -> None:
    """A file that was withheld is not there."""
    with pytest.raises(StageFailure, match=said) as caught:
        chosen_file(report, type_)

    assert caught.value.failure is FailureClass.SPEC_INVALID


def test_an_answer_is_json_for_a_program(tmp_path: Path) -> None:
    """In one line, with what was sent; without a prompt there is nothing to answer."""
    (tmp_path / "report.json").write_text(json.dumps(THREE))
    tools = {"TUNESMITH_LLAMA_CPP": str(a_chatting_server(tmp_path / "tools", "Hello\nthere"))}
    asked = called("chat", tmp_path, "--prompt", "Hi", "--json", **tools)

    assert (asked.code, asked.stderr) == (0, "")
    assert asked.stdout.count("\n") == 1
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    expected = {"file": f"{tmp_path}/bot-Q8_0.gguf", "messages": messages, "answer": "Hello\nthere", "cut": False}
    assert json.loads(asked.stdout) == expected
    refused = called("chat", tmp_path, "--json", **tools)
    assert refused.code == 2
    assert "--prompt TEXT" in refused.stderr


def test_the_server_does_not_outlive_a_chat_that_is_killed(tmp_path: Path) -> None:
    """However it is killed."""
    (tmp_path / "report.json").write_text(json.dumps(THREE))
    tools = a_chatting_server(tmp_path / "tools", "Hello")
    command = [sys.executable, "-c", "from tunesmith.cli import main; main()", "chat", str(tmp_path)]
    with subprocess.Popen(
        command, env=os.environ | {"TUNESMITH_LLAMA_CPP": str(tools)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as chatting:
        assert chatting.stdout is not None
        # It asks when the server is ready.
        chatting.stdout.readline()
        server = int((tools / f"{EXECUTABLES['server']}.pid").read_text())
        assert psutil.pid_exists(server)
        chatting.kill()

    wait_until(lambda: not psutil.pid_exists(server), "the server to be gone")
