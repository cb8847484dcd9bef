"""``tunesmith chat``: talk to a finished file through llama-server, as it would answer on a device."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.text import Text

from tunesmith.cli.inspect import Finished, read_report
from tunesmith.cli.terminal import terminal, visible
from tunesmith.llama_cpp import find_tools
from tunesmith.llama_cpp.environment import tool_environment
from tunesmith.llama_cpp.serving import LOAD_SECONDS, conversation
from tunesmith_api.failures import FailureClass, StageFailure

Type = Annotated[str | None, typer.Argument(help="The quantization. [default: the first that passed]", metavar="TYPE")]
Prompt = Annotated[str | None, typer.Option("--prompt", "-p", help="Ask this and end.")]
System = Annotated[str | None, typer.Option(help="A system prompt. [default: the one that was trained with]")]
Temperature = Annotated[float, typer.Option(help="0 always takes the likeliest word.", min=0.0, max=2.0)]
Json = Annotated[bool, typer.Option("--json", help="Write the answer to --prompt as JSON.")]

_POLL_SECONDS = 0.1


def chat(  # noqa: PLR0913, PLR0917  # each is an option of the command
    out: Finished,
    type_: Type = None,
    prompt: Prompt = None,
    system: System = None,
    temperature: Temperature = 0.0,
    as_json: Json = False,
) -> None:
    """Talk to the result. An empty line or Ctrl-D ends.

    Example: `tunesmith chat out/ Q4_K_M`
    """
    if as_json and prompt is None:
        raise typer.BadParameter("what is asked is needed too: --prompt TEXT", param_hint="'--json'")
    console = terminal()
    report = read_report(out)
    file = out / chosen_file(report, type_)
    messages = first_messages(report, system)
    with _serving(file) as client:
        if prompt is None:
            console.print(f"{file.name}; an empty line ends.", style="dim")
            for line in _lines(console):
                messages.append({"role": "user", "content": line})
                messages.append({"role": "assistant", "content": answer(client, messages, temperature)})
        elif as_json:
            messages.append({"role": "user", "content": prompt})
            text = "".join(pieces(client, messages, temperature))
            sys.stdout.write(json.dumps({"file": str(file), "messages": messages, "answer": text}) + "\n")
        else:
            answer(client, [*messages, {"role": "user", "content": prompt}], temperature)


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
    with subprocess.Popen(command, env=tool_environment(), stdout=silent, stderr=silent) as process:
        try:
            with client_of(f"http://127.0.0.1:{port}") as client:
                _wait_until_ready(client, process, file)
                yield client
        finally:
            process.terminate()


def client_of(url: str) -> httpx.Client:
    """A client of the llama-server at `url` that opens a connection per question and knows no proxy.

    llama-server may close a connection that it has streamed an answer over just as the next question goes out on it.
    """
    fresh = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=url, timeout=None, limits=fresh, trust_env=False)  # noqa: S113  # a person waits


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


def answer(client: httpx.Client, messages: Sequence[dict[str, str]], temperature: float) -> str:
    """Print the answer as it comes; returns it whole. Raises `Internal` where the server refuses or is gone."""
    text = ""
    for piece in pieces(client, messages, temperature):
        text += piece
        sys.stdout.write(visible(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")
    return text


def pieces(client: httpx.Client, messages: Sequence[dict[str, str]], temperature: float) -> Iterator[str]:
    """The answer as it comes. Raises `Internal` where the server refuses or is gone."""
    asked = conversation(messages) | {"temperature": temperature, "stream": True}
    try:
        with client.stream("POST", "/v1/chat/completions", json=asked) as stream:
            if stream.is_error:
                raise _refused(stream.read())
            yield from map(piece_of, stream.iter_lines())
    except httpx.TransportError as error:
        message = f"llama-server broke off the conversation: {error or type(error).__name__}"
        hint = "Start 'tunesmith chat' again. If it repeats, memory may be short: choose a smaller quantization."
        raise StageFailure(FailureClass.INTERNAL, message, hint) from error


def piece_of(line: str) -> str:
    """The text that a line of llama-server's event stream adds; StageFailure with its words for an error."""
    name, _, data = line.partition(": ")
    if name not in ("data", "error") or not data.startswith("{"):
        return ""
    event = json.loads(data)
    if name == "error" or "error" in event:
        raise _refused(data.encode())
    choices = event.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")


def _refused(body: bytes) -> StageFailure:
    try:
        told = json.loads(body)
        told = told.get("error", told)
        said = str(told.get("message", told))
    except (ValueError, AttributeError):
        said = body.decode(errors="replace").strip()[:300]
    hint = "A conversation that has become too long for the model begins anew with the next 'tunesmith chat'."
    return StageFailure(FailureClass.INTERNAL, f"llama-server refused to answer: {said}", hint)
