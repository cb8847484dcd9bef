"""What a run refuses, and what ends it, before its first stage: told in a sentence."""

import signal
import socket
from pathlib import Path

import pytest
import yaml

from support.runs import Ran, Running, manifest, run_job, tunesmith
from tunesmith.local.job import Wanted, open_job
from tunesmith.manifest import read_manifest


def store_everything(folder: Path, job: dict[str, object]) -> None:
    """As if another run had made every artifact of the job in the store below `folder`."""
    folder.mkdir()
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    local = open_job(Wanted(read_manifest(folder / "job.yaml"), folder / "out", str(folder / "store")))
    for stage in local.plan.stages:
        for output in stage.outputs:
            made = folder / "made" / output.kind / output.key
            made.mkdir(parents=True)
            (made / "README.md").write_text(stage.name)
            local.site.artifacts.commit(output.kind, output.key, made)


def refused(ran: Ran) -> str:
    assert ran.code == 2
    assert "Traceback" not in ran.stderr
    ((event, failure),) = [(event["event"], event["failure"]) for event in ran.events]
    assert (event, failure["class"]) == ("finished", "SpecInvalid")
    return ran.stderr.splitlines()[0]


def test_files_of_others_are_noticed_before_a_stage_is_looked_up_in_the_store(tmp_path: Path) -> None:
    """Not after all of them."""
    store_everything(tmp_path / "run", manifest())
    (tmp_path / "run" / "out").mkdir()
    (tmp_path / "run" / "out" / "README.md").write_text("mine")

    assert "holds files of somebody else that the result would replace: README.md" in refused(
        run_job(tmp_path / "run", manifest())
    )
    assert (tmp_path / "run" / "out" / "README.md").read_text() == "mine"


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_an_output_that_is_a_file_is_refused(tmp_path: Path, output: str) -> None:
    """It stays as it is."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(manifest()))
    ran = tunesmith("run", tmp_path / "job.yaml", "--output", tmp_path / output, "--json")

    assert "is a file" in refused(ran)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_while_it_waits_for_a_hub_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: signal.Signals
) -> None:
    """As one that is ended in a stage: the last event is `finished`, and the code 130."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        run = Running(tmp_path, manifest(model={"source": "hf://org/model"}), tmp_path / "store")
        connection, _ = silent.accept()
        run.process.send_signal(asked)
        last = run.until(lambda event: event["event"] == "finished")
        connection.close()

    assert run.end(timeout=300) == 130
    assert (last["phase"], last["failure"]["class"]) == ("Failed", "Interrupted")
