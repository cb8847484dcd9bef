"""llama-server on a free port of loopback, for as long as a block lasts: asked as its users will ask it."""

import json
import logging
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.cores import usable_cores
from tunesmith.fixed_day import on_the_fixed_day, today
from tunesmith.llama_cpp import Tools
from tunesmith.llama_cpp.environment import tool_environment
from tunesmith.llama_cpp.serving import LOAD_SECONDS, conversation
from tunesmith.llama_cpp.tied import dying_with_us
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.llama.run import Ran, kill_group

log = logging.getLogger(__name__)

Message = Mapping[str, str]

# A slot holds one conversation; eight generate together in little more time than one, since each step reads all weights
# once (measured with SmolLM2 on 2 cores: 1 slot 15 tokens/s, 8 slots 70).
SLOTS = 8
# A single answer of a 4B model on two cores takes minutes.
ANSWER_SECONDS = 1800.0
_LOOK_SECONDS = 0.05
# Output is kept for the message where a model does not load: b11312 writes 8 lines until it has loaded, 4,700 if told
# to say everything, about 100 bytes each. What it writes later, seven lines an answer, is not to fill memory.
_ALL_LINES = 20_000


@dataclass(frozen=True, slots=True)
class Completion:
    """What was generated: the text, special tokens spelt out; whether the model ended it by itself; how many tokens."""

    text: str
    stopped: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class Serving:
    """How a GGUF is served: `context_length` tokens for each of `slots`; `template`, a file, in place of its own."""

    context_length: int
    slots: int = SLOTS
    template: Path | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A llama-server that has loaded its model."""

    url: str
    process: subprocess.Popen[bytes]
    interrupted: threading.Event

    def chat(self, messages: Sequence[Message], max_tokens: int, seed: int = 0) -> Completion:
        """The model's answer to a conversation, rendered by the GGUF's own template; greedy."""
        body = {"temperature": 0, "seed": seed, "max_tokens": max_tokens}
        answer = self._ask("/v1/chat/completions", conversation(messages) | body)
        choice = answer["choices"][0]
        text = choice["message"].get("content") or ""
        stopped = choice["finish_reason"] == "stop"
        return Completion(text, stopped, int(answer["usage"]["completion_tokens"]))

    def complete(self, prompt: str | Sequence[int], max_tokens: int, seed: int = 0) -> Completion:
        """The continuation of a text or of token ids; greedy."""
        body = {"prompt": prompt, "temperature": 0, "seed": seed, "n_predict": max_tokens}
        answer = self._ask("/completion", body)
        return Completion(answer["content"], answer.get("stop_type") == "eos", int(answer["tokens_predicted"]))

    def apply_template(self, messages: Sequence[Message]) -> str:
        """The prompt that a conversation becomes; the server leaves out a leading BOS (P44)."""
        return str(self._ask("/apply-template", conversation(messages))["prompt"])

    def rendered(self, messages: Sequence[Message], template: str) -> str:
        """The same as of the day that was trained with, where `template` writes today's date by itself (P10)."""
        began = today()
        text = self.apply_template(messages)
        return on_the_fixed_day(text, template, (began, today()))

    def template(self) -> str:
        """The chat template that it renders with."""
        return str(self._ask("/props", None).get("chat_template") or "")

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a rendered prompt, as the server itself makes them: with BOS where the model wants one."""
        answer = self._ask("/tokenize", {"content": text, "add_special": True, "parse_special": True})
        return [int(token) for token in answer["tokens"]]

    def _ask(self, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        if self.interrupted.is_set():
            raise StageFailure(FailureClass.INTERRUPTED, "interrupted while llama-server was answering")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})  # noqa: S310
        try:
            with _DIRECT.open(request, timeout=ANSWER_SECONDS) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            message = f"llama-server refuses {path}: {error.read().decode(errors='replace')[:500]}"
            raise StageFailure(FailureClass.CONVERSION_INVALID, message) from error
        except OSError as error:
            raise self._gone(path, error) from error
        return answer

    def _gone(self, path: str, error: OSError) -> StageFailure:
        if self.interrupted.is_set():
            return StageFailure(FailureClass.INTERRUPTED, "interrupted while llama-server was answering")
        if self.process.poll() == -9:  # noqa: PLR2004  # SIGKILL that is not ours: the kernel wanted memory
            return StageFailure(FailureClass.OUT_OF_MEMORY, "llama-server was killed, most likely for want of memory")
        return StageFailure(FailureClass.INTERNAL, f"llama-server does not answer {path}: {error}")


# A proxy of the environment has no business between us and loopback.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def serve(tools: Tools, gguf: Path, how: Serving, interrupted: threading.Event) -> Iterator[Server]:
    """`gguf` behind a server that is gone when the block ends, when the stage is interrupted, and when it dies.

    Raises ConversionInvalid where the model does not load, OutOfMemory where memory does not suffice, Interrupted.
    """
    port = _free_port()
    command = _command(tools, gguf, how, port)
    log.info("%s %s", tools.server.name, " ".join(map(str, command[1:])))
    process = subprocess.Popen(
        dying_with_us(command),
        env=tool_environment() | _OPTIONS_BY_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    said: list[str] = []
    ended = threading.Event()
    helpers = [
        threading.Thread(target=_keep_output, args=(process, said), daemon=True),
        threading.Thread(target=_end_when_interrupted, args=(process, interrupted, ended), daemon=True),
    ]
    for helper in helpers:
        helper.start()
    try:
        server = Server(f"http://127.0.0.1:{port}", process, interrupted)
        _wait_until_loaded(server, gguf, said)
        yield server
    finally:
        ended.set()
        kill_group(process)
        for helper in helpers:
            helper.join()


# By environment, since llama.cpp ignores a variable that it does not know and refuses such an option: no build is to
# take reasoning or tool calls out of the text that is judged.
_OPTIONS_BY_ENVIRONMENT = {"LLAMA_ARG_SKIP_CHAT_PARSING": "1", "LLAMA_ARG_WARMUP": "0", "LLAMA_ARG_UI": "0"}


def _command(tools: Tools, gguf: Path, how: Serving, port: int) -> list[str | Path]:
    command: list[str | Path] = [tools.server, "-m", gguf.resolve(), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--ctx-size", str(how.context_length * how.slots), "--parallel", str(how.slots), "--jinja"]
    # --special spells out control tokens in an answer, where a leak could otherwise not be seen.
    command += ["--special", "-t", str(usable_cores())]
    if how.template is not None:
        command += ["--chat-template-file", how.template.resolve()]
    return command


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_loaded(server: Server, gguf: Path, said: list[str]) -> None:
    for _ in range(int(LOAD_SECONDS / _LOOK_SECONDS)):
        if server.interrupted.is_set():
            raise StageFailure(FailureClass.INTERRUPTED, "interrupted while llama-server was loading")
        if server.process.poll() is not None:
            raise _not_loaded(server, gguf, said)
        if _healthy(server.url):
            return
        server.interrupted.wait(_LOOK_SECONDS)
    raise StageFailure(FailureClass.CONVERSION_INVALID, f"llama-server has not loaded {gguf.name} in {LOAD_SECONDS} s")


def _healthy(url: str) -> bool:
    try:
        with _DIRECT.open(url + "/health", timeout=5) as response:
            return bool(response.status == 200)  # noqa: PLR2004  # 503 while it loads
    except OSError:
        return False


def _not_loaded(server: Server, gguf: Path, said: list[str]) -> StageFailure:
    ran = Ran("llama-server", server.process.returncode, "".join(said))
    if ran.code == -9 or "failed to allocate" in ran.output:  # noqa: PLR2004  # SIGKILL
        return StageFailure(FailureClass.OUT_OF_MEMORY, f"there is not enough memory to serve {gguf.name}")
    if ran.code in (127, -4):  # ld.so found no library; SIGILL
        return StageFailure(FailureClass.TOOLS_MISSING, f"llama-server does not run here: {ran.tail(2)}")
    return StageFailure(FailureClass.CONVERSION_INVALID, f"llama-server does not load {gguf.name}: {ran.tail(3)}")


def _keep_output(process: subprocess.Popen[bytes], said: list[str]) -> None:
    for raw in process.stdout or ():
        line = raw.decode(errors="replace")
        log.debug("%s", line.rstrip())
        if len(said) < _ALL_LINES:
            said.append(line)


def _end_when_interrupted(
    process: subprocess.Popen[bytes], interrupted: threading.Event, ended: threading.Event
) -> None:
    while not ended.is_set():
        if interrupted.wait(_LOOK_SECONDS * 4):
            kill_group(process)
            return
