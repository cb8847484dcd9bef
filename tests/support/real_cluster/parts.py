"""The processes of a cluster on this machine: started where they are absent, and waited for."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from support.real_cluster.background import Background
from support.waiting import wait_until

# Each part is ready in some seconds on two idle cores.
_SECONDS = 300.0


def say(sentence: str) -> None:
    """What is being done, for whoever waits."""
    print(f"cluster: {sentence}", file=sys.stderr, flush=True)


@dataclass
class Parts:
    """What `run` holds; `started` are those that were absent."""

    run: Background
    started: list[str] = field(default_factory=list)

    def start(self, commands: Mapping[str, list[str | Path]], environment: dict[str, str] | None = None) -> None:
        """Start those that do not run."""
        for name in [name for name in commands if self.run.running(name) is None]:
            self.run.start(name, commands[name], environment)
            self.started.append(name)

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        """Until it is ready; AssertionError with the log of a part that has ended instead."""

        def looked() -> bool:
            for name in self.started:
                if self.run.running(name) is None:
                    raise AssertionError(f"{name} has ended:\n{self.run.tail(name)}")
            return ready()

        if self.started:
            say(f"waiting for {what}")
        wait_until(looked, f"{what} to be ready", _SECONDS)


def answers(url: str) -> bool:
    """Whether a server answers well."""
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False
