"""A real Ollama on loopback for the length of a block, built once into the user's cache: `ollama_server`."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from support.server_binaries import cached_binary, go_install
from support.waiting import wait_until
from tunesmith.llama_cpp.pin import PIN
from tunesmith.llama_cpp.source import fetch_source

OLLAMA_VERSION = "v0.17.4"

# A start takes 1 s on idle cores, the first answer of a model of 135 M parameters 3 s.
_READY_SECONDS = 120.0
_ANSWER_SECONDS = 300.0


@dataclass(frozen=True)
class Ollama:
    """A running Ollama with models of its own."""

    address: str
    work: Path
    environment: dict[str, str]

    def create(self, model: str, modelfile: Path) -> None:
        """``ollama create``; paths in the Modelfile are relative to it. AssertionError where it is refused."""
        command = [str(ollama_binary()), "create", model, "-f", modelfile.name]
        done = subprocess.run(
            command, cwd=modelfile.parent, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"ollama create {model}: {done.stderr[-2000:]}"

    def chat(self, model: str, messages: list[dict[str, str]], **options: Any) -> dict[str, Any]:
        """Ollama's whole answer: ``message``, ``done_reason`` (``stop`` or ``length``), counts of tokens."""
        request = {"model": model, "messages": messages, "stream": False, "options": {"temperature": 0, **options}}
        answer = httpx.post(f"{self.address}/api/chat", json=request, timeout=_ANSWER_SECONDS)
        answer.raise_for_status()
        return dict(answer.json())

    def show(self, model: str) -> dict[str, Any]:
        """What Ollama made of the Modelfile: ``template``, ``parameters``, ``details``."""
        answer = httpx.post(f"{self.address}/api/show", json={"model": model}, timeout=_READY_SECONDS)
        answer.raise_for_status()
        return dict(answer.json())


def ollama_binary() -> Path:
    """The Ollama command and server in one, built from its module when it is not in the cache (8 to 15 minutes)."""
    return cached_binary(f"ollama-{OLLAMA_VERSION}", "building Ollama, about 8 minutes", _build_ollama)


def _build_ollama(work: Path) -> Path:
    # Go leaves C headers that lie in folders without Go files out of its modules; llama.cpp's source has the same ones.
    headers = f"-O2 -I{fetch_source() / PIN.tree / 'vendor'}"
    settings = {"CGO_ENABLED": "1", "CGO_CFLAGS": headers, "CGO_CXXFLAGS": headers}
    go_install(f"github.com/ollama/ollama@{OLLAMA_VERSION}", work, settings)
    return work / "ollama"


@contextmanager
def ollama_server(work: Path) -> Iterator[Ollama]:
    """``ollama serve`` on a free port; models, keys and log lie in `work`."""
    work.mkdir(parents=True, exist_ok=True)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{held.getsockname()[1]}"
    environment = os.environ | {"HOME": str(work), "OLLAMA_HOST": host, "OLLAMA_MODELS": str(work / "models")}
    server = Ollama(f"http://{host}", work, environment)
    log = work / "ollama.log"
    # The server dies with the test run, even when that is killed.
    tied = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*tied, str(ollama_binary()), "serve"], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_until(lambda: _answers(process, server, log), "Ollama to answer", _READY_SECONDS)
        yield server
    finally:
        # SIGTERM lets it end the runner of each model that it has loaded.
        process.terminate()
        process.wait()


def _answers(process: subprocess.Popen[bytes], server: Ollama, log: Path) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"Ollama ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    try:
        return httpx.get(f"{server.address}/api/version").is_success
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    ollama_binary()
