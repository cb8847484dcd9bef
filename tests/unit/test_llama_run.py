"""Running a tool of llama.cpp: its output whole, its end certain, its failures named."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.llama_cpp_folders import a_script
from support.waiting import wait_until
from tunesmith.llama_cpp.environment import tool_environment
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.llama.run import kill_group, run_tool


def test_all_output_of_both_streams_is_kept_and_the_code_is_no_verdict(tmp_path: Path) -> None:
    """What a tool writes to either stream comes back in order; a code other than 0 raises nothing."""
    tool = a_script(tmp_path / "tool", "echo one; echo two >&2; echo three; exit 3")

    ran = run_tool([tool], threading.Event(), tmp_path)

    assert (ran.code, ran.output) == (3, "one\ntwo\nthree\n")


def test_a_sign_that_arrives_in_two_reads_is_one_character(tmp_path: Path) -> None:
    """The two bytes of a plus-minus sign may come apart."""
    halves = "import os, threading; os.write(1, b'5 \\xc2'); threading.Event().wait(0.2); os.write(1, b'\\xb1 1')"
    tool = a_script(tmp_path / "tool", f'exec {sys.executable} -c "{halves}"')

    assert run_tool([tool], threading.Event(), tmp_path).output == "5 ± 1"


def test_a_growing_line_is_seen_each_time_it_grows(tmp_path: Path) -> None:
    """llama.cpp writes `[1]5.1,[2]5.2,` without a line end; progress must not wait for one."""
    tool = a_script(tmp_path / "tool", 'printf "[1]5.1,"; until [ -e seen ]; do :; done; printf "[2]5.2,"')
    seen: list[str] = []

    def watch(line: str) -> None:
        seen.append(line)
        (tmp_path / "seen").touch()

    run_tool([tool], threading.Event(), tmp_path, watch)

    assert seen == ["[1]5.1,", "[1]5.1,[2]5.2,"]


def test_the_log_gives_the_tail_without_its_time_stamps(tmp_path: Path) -> None:
    """An error message holds what the tool said last, without what llama.cpp puts in front of each line."""
    tool = a_script(tmp_path / "tool", "echo; echo '0.05.550.483 E load: no such file'; echo")

    assert run_tool([tool], threading.Event(), tmp_path).tail() == "load: no such file"


def test_an_interrupted_tool_is_gone_with_its_children(tmp_path: Path) -> None:
    """Setting `interrupted` kills the whole process group at once and says so."""
    tool = a_script(tmp_path / "tool", "sleep 600 & echo $!; wait")
    interrupted = threading.Event()
    child: list[int] = []

    def watch(line: str) -> None:
        if line.isdigit() and not child:
            child.append(int(line))
            interrupted.set()

    with pytest.raises(StageFailure) as failure:
        run_tool([tool], interrupted, tmp_path, watch)

    assert failure.value.failure == FailureClass.INTERRUPTED
    wait_until(lambda: not _alive(child[0]), "the end of the tool's child")


def test_a_tool_does_not_outlive_a_stage_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the stage's process, which nothing can handle, ends the tool too."""
    tool = a_script(
        tmp_path / "tool", f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 600"
    )
    code = (
        "import threading; from pathlib import Path; from tunesmith_trainer.llama.run import run_tool; "
        f"run_tool([Path({str(tool)!r})], threading.Event(), Path({str(tmp_path)!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as stage:
        wait_until((tmp_path / "pid").exists, "the start of the tool")
        tool_id = int((tmp_path / "pid").read_text())
        assert _alive(tool_id)
        stage.kill()

    wait_until(lambda: not _alive(tool_id), "the end of the tool")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("kill -9 $$", FailureClass.OUT_OF_MEMORY, id="killed from outside: memory"),
        pytest.param("echo 'what(): std::bad_alloc'; kill -6 $$", FailureClass.OUT_OF_MEMORY, id="allocation failed"),
        pytest.param("kill -4 $$", FailureClass.TOOLS_MISSING, id="built for another processor"),
        pytest.param("exit 127", FailureClass.TOOLS_MISSING, id="a library is not there"),
    ],
)
def test_a_tool_that_cannot_run_here_is_a_classified_failure(tmp_path: Path, body: str, expected: FailureClass) -> None:
    """What kills a tool is named by its class, so that a retry or a person can do the right thing."""
    with pytest.raises(StageFailure) as failure:
        run_tool([a_script(tmp_path / "tool", body)], threading.Event(), tmp_path)

    assert expected == failure.value.failure


def test_the_users_llama_options_do_not_reach_the_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """LLAMA_ARG_* in the environment would change what is measured; threads that wait do not spin."""
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "64")
    monkeypatch.setenv("UNRELATED", "kept")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)

    environment = tool_environment()

    assert "LLAMA_ARG_CTX_SIZE" not in environment
    assert (environment["UNRELATED"], environment["OMP_WAIT_POLICY"]) == ("kept", "passive")


def _alive(process: int) -> bool:
    try:
        os.kill(process, signal.SIG_DFL)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{process}/stat").exists() or " Z " not in Path(f"/proc/{process}/stat").read_text()


def test_two_threads_may_end_the_same_tool() -> None:
    """The one that comes second finds no group any more: a watcher of interruptions and the block that ends race."""
    for _ in range(300):
        process = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
        both = threading.Barrier(2)

        def end(process: subprocess.Popen[bytes] = process, both: threading.Barrier = both) -> None:
            both.wait()
            kill_group(process)

        with ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(end), threads.submit(end)]:
                done.result()
        assert process.returncode == -signal.SIGKILL
