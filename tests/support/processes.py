"""Work in processes of its own: several at once from one starting line, or one that is killed at a chosen moment."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any

_FORK = multiprocessing.get_context("fork")

# What Python reports just before it touches a disk or a connection (PEP 578; table of audit events in its library
# reference): opened for writing, renamed, linked, made unwritable, removed, sent.
_WRITES = {"os.rename", "os.link", "os.chmod", "os.utime", "os.mkdir", "os.remove", "http.client.send"}

_SECONDS = 120.0


def in_processes(work: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> list[Any]:
    """The results of `work(*call)`, each in a process of its own, all let go at the same moment."""
    calls = list(calls)
    barrier = _FORK.Barrier(len(calls))
    running = []
    for call in calls:
        here, there = _FORK.Pipe(duplex=False)
        process = _FORK.Process(target=_answer, args=(barrier, there, work, call))
        process.start()
        there.close()
        running.append((process, here))
    return [_received(process, here) for process, here in running]


def killed_at_write(number: int, work: Callable[..., Any], *arguments: Any) -> bool:
    """Run `work` in a process that kills itself before its n-th write (from 0); False if it ended before that."""
    process = _FORK.Process(target=_doomed, args=(number, work, arguments))
    process.start()
    process.join(_SECONDS)
    if process.exitcode not in {0, -signal.SIGKILL}:
        raise AssertionError(f"the process ended with {process.exitcode}")
    return process.exitcode != 0


def _answer(barrier: Any, answer: Connection, work: Callable[..., Any], call: tuple[Any, ...]) -> None:
    barrier.wait(_SECONDS)
    answer.send(work(*call))


def _received(process: Any, answer: Connection) -> Any:
    try:
        if not answer.poll(_SECONDS):
            raise AssertionError("no answer from a process")
        return answer.recv()
    except EOFError as error:
        raise AssertionError("a process ended without an answer; see its traceback above") from error
    finally:
        process.join(_SECONDS)


def _doomed(number: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    left, lock = [number], threading.Lock()

    def count(event: str, args: tuple[Any, ...]) -> None:
        if event in _WRITES or (event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)):
            with lock:
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1

    sys.addaudithook(count)
    work(*arguments)
