"""``tunesmith chat``: talk to a finished file through llama-server, as it would answer on a device."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.text import Text

from tunesmith.cli.answering import (
    MOST_TOKENS,
    Question,
    Sampling,
    client_of,
    of_conversation,
    of_text,
    pieces,
)
from tunesmith.cli.inspect import Finished, read_report
from tunesmith.cli.terminal import terminal, visible
from tunesmith.llama_cpp import find_tools
from tunesmith.llama_cpp.environment import tool_environment
from tunesmith.llama_cpp.serving import LOAD_SECONDS
from tunesmith.llama_cpp.tied import dying_with_us
from tunesmith_api.failures import FailureClass, StageFailure

Type = Annotated[str | None, typer.Argument(help="The quantization. [default: the first that passed]", metavar="TYPE")]
Prompt = Annotated[str | None, typer.Option("--prompt", "-p", help="Ask this and end.")]
System = Annotated[str | None, typer.Option(help="A system prompt. [default: the one that was trained with]")]
Temperature = Annotated[float, typer.Option(help="0 always takes the likeliest word.", min=0.0, max=2.0)]
MaxTokens = Annotated[int, typer.Option(help="An answer is cut off after so many tokens.", min=1)]
Json = Annotated[bool, typer.Option("--json", help="Write the answer to --prompt as JSON.")]

_POLL_SECONDS = 0.1
_CUT = "(cut off here; --max-tokens allows longer answers)"
_TEXTS = "It was trained on plain texts: what you write is the beginning of one, and it goes on from there."


def chat(  # noqa: PLR0913, PLR0917  # each is an option of the command
    out: Finished,
    type_: Type = None,
    prompt: Prompt = None,
    system: System = None,
    temperature: Temperature = 0.0,
    max_tokens: MaxTokens = MOST_TOKENS,
    as_json: Json = False,
) -> None:
    """Talk to the result. An empty line or Ctrl-D ends. A model that was trained on plain texts goes on with yours.

    Example: `tunesmith chat out/ Q4_K_M`
    """
    if as_json and prompt is None:
        raise typer.BadParameter("what is asked is needed too: --prompt TEXT", param_hint="'--json'")
    console = terminal()
    report = read_report(out)
    file = out / chosen_file(report, type_)
    talk, sampling = _talk_with(report, system), Sampling(temperature, max_tokens)
    with _serving(file) as client:
        if prompt is None:
            console.print(f"{file.name}; an empty line ends.{'' if talk.chats else f' {_TEXTS}'}", style="dim")
            for line in _lines(console):
                talk.heard(answer(client, talk.asked(line), sampling))
        elif as_json:
            said = list(pieces(client, talk.asked(prompt), sampling))
            told = {"answer": "".join(piece.text for piece in said), "cut": any(piece.cut for piece in said)}
            asked = {"messages": talk.messages} if talk.chats else {"prompt": prompt}
            sys.stdout.write(json.dumps({"file": str(file)} | asked | told) + "\n")
        else:
            answer(client, talk.asked(prompt), sampling)


@dataclass(slots=True)
class _Talk:
    """What was said so far; a model of plain texts (`chats` is false) begins anew with each."""

    chats: bool
    messages: list[dict[str, str]]

    def asked(self, text: str) -> Question:
        if not self.chats:
            return of_text(text)
        self.messages.append({"role": "user", "content": text})
        return of_conversation(self.messages)

    def heard(self, text: str) -> None:
        self.messages.append({"role": "assistant", "content": text})


def _talk_with(report: dict[str, object], system: str | None) -> _Talk:
    """A model converses unless its report says that it was trained on plain texts."""
    chats = (report.get("dataset") or {}).get("chat", True)  # type: ignore[attr-defined]  # JSON
    if not chats and system is not None:
        message = "--system is for models that converse, and this one was trained on plain texts"
        raise StageFailure(FailureClass.SPEC_INVALID, message, "Leave it out, and begin the text with what it says.")
    return _Talk(bool(chats), first_messages(report, system) if chats else [])


def first_messages(report: dict[str, object], system: str | None) -> list[dict[str, str]]:
    """What every conversation begins with: the system prompt, without one given that of the training (as Ollama does).

    An empty one is none.
    """
    trained = (report.get("dataset") or {}).get("systemPrompt")  # type: ignore[attr-defined]  # JSON
    content = trained if system is None else system
    return [{"role": "system", "content": str(content)}] if content else []


def chosen_file(report: dict[str, object], type_: str | None) -> str:
    """The file of that type, or the first published one that passed; `SpecInvalid` names what there is."""
    files = [file for file in report["files"] if file["published"]]  # type: ignore[attr-defined]  # JSON
    if type_ is not None:
        found = [file["name"] for file in files if file["type"].lower() == type_.lower()]
    else:
        found = [file["name"] for file in sorted(files, key=lambda file: file["verdict"] != "Passed")]
    if not found:
        there = ", ".join(file["type"] for file in files) or "no file"
        raise StageFailure(FailureClass.SPEC_INVALID, f"there is no published {type_ or 'file'}; there is {there}", "")
    return str(found[0])


@contextmanager
def _serving(file: Path) -> Iterator[httpx.Client]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(find_tools().server), "-m", str(file), "--host", "127.0.0.1", "--port", str(port), "--jinja"]
    silent = subprocess.DEVNULL
    with subprocess.Popen(dying_with_us(command), env=tool_environment(), stdout=silent, stderr=silent) as process:
        try:
            with client_of(f"http://127.0.0.1:{port}") as client:
                _wait_until_ready(client, process, file)
                yield client
        finally:
            # Asked to end, it would first finish the answer it is at, which nobody waits for; it has nothing to save.
            process.kill()


def _wait_until_ready(client: httpx.Client, process: "subprocess.Popen[bytes]", file: Path) -> None:
    for _ in range(int(LOAD_SECONDS / _POLL_SECONDS)):
        try:
            if client.get("/health").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        try:
            code = process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        raise StageFailure(FailureClass.INTERNAL, f"llama-server ended with code {code} instead of loading {file}")
    raise StageFailure(FailureClass.INTERNAL, f"llama-server did not load {file} within {LOAD_SECONDS:.0f} s")


def _lines(console: Console) -> Iterator[str]:
    while True:
        try:
            line = console.input(Text("> ", style="bold")).strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not line:
            return
        yield line


def answer(client: httpx.Client, question: Question, sampling: Sampling) -> str:
    """Print the answer as it comes, and whether it was cut; returns it whole. Raises as `pieces`."""
    text, cut = "", False
    for piece in pieces(client, question, sampling):
        text, cut = text + piece.text, cut or piece.cut
        sys.stdout.write(visible(piece.text))
        sys.stdout.flush()
    sys.stdout.write("\n")
    if cut:
        terminal(stderr=True).print(_CUT, style="dim")
    return text
