"""Processes that outlive whoever started them: found again, told from others of the same id, and ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.real_cluster.background import Background
from support.waiting import wait_until

SLEEP = [sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"]
DEAF = [
    sys.executable,
    "-c",
    "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()",
]


@pytest.mark.parametrize("command", [SLEEP, DEAF], ids=["heeds", "does not heed"])
def test_a_process_is_found_again_and_ended(tmp_path: Path, command: list[str]) -> None:
    """Asked first; what does not heed it is killed."""
    Background(tmp_path).start("one", list(command))
    again = Background(tmp_path, patience=1.0)
    wait_until(lambda: "up" in again.tail("one"), "the process to be up")

    assert again.names() == ["one"]
    assert again.running("one") is not None
    again.stop("one")
    assert again.running("one") is None
    again.stop("one")


def test_another_process_of_the_same_id_is_left_alone(tmp_path: Path) -> None:
    """After a restart of the machine the id is somebody else's."""
    with subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL) as other:
        (tmp_path / "pid").mkdir()
        (tmp_path / "pid" / "one").write_text(f"{other.pid} 1 0")

        Background(tmp_path).stop("one")

        assert Background(tmp_path).running("one") is None
        assert other.poll() is None
        other.terminate()


def test_what_was_never_started_does_not_run(tmp_path: Path) -> None:
    """And an id that nobody has is nobody's."""
    (tmp_path / "pid").mkdir()
    (tmp_path / "pid" / "gone").write_text(f"{2**22 + os.getpid()} 5 0")

    assert Background(tmp_path).running("absent") is None
    assert Background(tmp_path).running("gone") is None


def test_what_was_said_before_a_start_is_not_of_this_process(tmp_path: Path) -> None:
    """A machine may go off: what an earlier one said of itself then is true of none that runs."""
    run = Background(tmp_path)
    run.start("one", list(SLEEP))
    wait_until(lambda: "up" in run.said("one"), "the process to be up")
    run.stop("one")
    run.start("one", [sys.executable, "-c", "import signal; signal.pause()"])

    assert run.said("one") == ""
    assert "up" in run.log("one").read_text()
    run.stop("one")
