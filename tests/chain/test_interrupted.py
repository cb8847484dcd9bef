"""A run that is interrupted or killed loses nothing: the same command goes on in the middle of training."""

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.models import cut, smollm2
from support.runs import Running, manifest, record, run_command, run_job, started_by, trained_steps
from support.terminals import OnTerminal
from support.waiting import wait_until
from tunesmith.local.job import Wanted, begin, open_job
from tunesmith.local.runner import Event, Run
from tunesmith.manifest import read_manifest
from tunesmith.store import Artifacts, FolderStore
from tunesmith.store.runs import read_runs
from tunesmith_api.failures import FailureClass

STEPS = 12
# A step that no training here reaches: what such a run goes on from was saved since it was asked to end.
NEVER = 100


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A training long enough to be interrupted, of the model's first four layers."""
    model = cut(smollm2(), 4, tmp_path_factory.mktemp("model") / "SmolLM2-cut")
    training = {"maxSteps": STEPS, "effectiveBatchSize": 8, "maxSequenceLength": 128}
    training |= {"saveEvery": 2, "evalEvery": NEVER}
    return manifest(model={"source": f"file://{model}"}, training=training, quantizations=["Q8_0"])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def trained_with(job: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The job with other settings of its training."""
    training = {**job["spec"]["training"], **changes}
    return {**job, "spec": {**job["spec"], "training": training}}


def trained_again(folder: Path, job: dict[str, Any], store: Path) -> dict[str, Any]:
    """Run once more until training is done, which is the first stage to be started; its headline figures.

    What it went on from is gone from the store by then (contract 3).
    """
    run = Running(folder, job, store)
    done = run.until(lambda event: event.get("stage") == "train" and event["event"] == "done")
    end_at_once(run)
    started = [event["stage"] for event in run.events if event["event"] == "started"]
    assert started[0] == "train"
    key = record(folder)["stages"]["train"]["keys"]["outputs"]["adapter"]
    assert not [path for path in (store / "default" / "checkpoints" / key).rglob("*") if path.is_file()]
    return dict(done["result"]["figures"])


def end_at_once(run: Running) -> None:
    """Two signals, the second when the first was understood."""
    run.process.send_signal(signal.SIGINT)
    # Between two stages there is none to stop: then the first signal alone ends the run.
    if run.next_or_end(lambda event: event["event"] in ("stopping", "failed")) is not None:
        run.process.send_signal(signal.SIGINT)
    run.end(timeout=300)


@pytest.mark.slow
def test_killed_in_the_middle_of_training_it_goes_on(job: dict[str, Any], store: Path, tmp_path: Path) -> None:
    """SIGKILL to runner and stage; nothing is started anew that was done, and training does not begin again."""
    run = Running(tmp_path, job, store)
    run.until(trained_steps(5))
    run.kill_all()

    figures = trained_again(tmp_path, job, store)
    assert figures["resumedFrom"] >= 4
    assert figures["steps"] == STEPS


@pytest.mark.slow
def test_a_stage_whose_runner_is_killed_saves_and_goes(job: dict[str, Any], store: Path, tmp_path: Path) -> None:
    """The kernel asks it to end when its runner dies: nothing is left running, and nothing trained is lost."""
    other = trained_with(job, seed=6, saveEvery=NEVER)
    run = Running(tmp_path, other, store)
    reached = int(run.until(trained_steps(3))["metrics"]["current_step"])
    stages = run.stages()
    os.kill(run.process.pid, signal.SIGKILL)
    run.end(timeout=300)
    psutil.wait_procs(stages, timeout=300)
    assert not [stage for stage in stages if stage.is_running() and stage.status() != psutil.STATUS_ZOMBIE]

    assert trained_again(tmp_path, other, store)["resumedFrom"] >= reached - 1


def test_a_first_ctrl_c_saves_and_a_second_run_goes_on(job: dict[str, Any], store: Path, tmp_path: Path) -> None:
    """Exit code 130; the step saved is at least the step at the signal less one."""
    other = trained_with(job, seed=7, saveEvery=NEVER)
    run = Running(tmp_path, other, store)
    reached = int(run.until(trained_steps(3))["metrics"]["current_step"])
    run.process.send_signal(signal.SIGINT)

    last = run.until(lambda event: event["event"] == "finished")
    assert run.end(timeout=300) == 130
    known = record(tmp_path)
    assert (known["phase"], known["failure"]["class"]) == ("Failed", "Interrupted")
    assert last == {"event": "finished", "phase": "Failed", "failure": known["failure"], "files": []}
    assert trained_again(tmp_path, other, store)["resumedFrom"] >= reached - 1


def test_a_second_ctrl_c_ends_at_once_and_leaves_nothing_running(
    job: dict[str, Any], store: Path, tmp_path: Path
) -> None:
    """Within five seconds, every process of the run included (issue 3); a person reads what each Ctrl-C does."""
    other = trained_with(job, seed=8)
    run = OnTerminal(*run_command(tmp_path, other, store))
    title = f"small -> {tmp_path / 'out'}"
    run.until(title, r"\ntrain [^\n]* running ")
    stages = started_by(run.process.pid)
    with held_up(stages):
        run.press_ctrl_c()
        run.until(title, r"^\s+Saving at the end of the running step; press Ctrl-C again to end at once\.")
        run.press_ctrl_c()
        code = run.end(timeout=5)

    assert code == 130, run.drawings(title)[-1]
    assert not [stage for stage in stages if stage.is_running() and stage.status() != psutil.STATUS_ZOMBIE]
    # Where the terminal is busy its own ^C comes last.
    said = run.drawings(title)[-1].rstrip().removesuffix("^C").rstrip()
    assert said.endswith("Stopped. The same command goes on from here.")
    # Killed by us, and not, as -9 would mean otherwise, by a kernel that is out of memory (P26).
    assert re.search(r"\ntrain [^\n]* stopped [^\n]* train was ended before it could save", said), said
    assert_whole(store, tmp_path / "scratch")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".tunesmith"]
    assert trained_again(tmp_path, other, store)["steps"] == STEPS


@contextlib.contextmanager
def held_up(processes: list[psutil.Process]) -> Iterator[None]:
    """Within it they stand still: none can heed a first signal before a second comes."""
    for process in processes:
        process.suspend()
    # On a busy machine one that has not run since would still be ended by a signal that it has no handler of.
    wait_until(lambda: all(process.status() == psutil.STATUS_STOPPED for process in processes), "to stand still")
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def assert_whole(store: Path, scratch: Path) -> None:
    """No artifact without a whole manifest, nor without the files that it names, byte by byte."""
    artifacts = Artifacts(FolderStore(store), "default")
    keys = [(path.parent.name, path.name) for path in (store / "default" / "artifacts").glob("*/*")]
    assert "dataset" in {kind for kind, _ in keys}
    for kind, key in keys:
        artifacts.open(kind, key, scratch)


@pytest.mark.slow
def test_a_deadline_saves_and_a_second_run_goes_on(job: dict[str, Any], store: Path, tmp_path: Path) -> None:
    """spec.activeDeadlineSeconds: the class Deadline with its cure, and no step lost."""
    other = trained_with(job, seed=10, saveEvery=NEVER)
    (tmp_path / "job.yaml").write_text(json.dumps(other))
    local = open_job(Wanted(read_manifest(tmp_path / "job.yaml"), tmp_path / "out", str(store)))
    steps: list[int] = []

    def watch(event: Event) -> None:
        if event.stage == "train" and event.report is not None and int(event.report.metrics.get("current_step", 0)) > 2:
            steps.append(int(event.report.metrics["current_step"]))
            run.deadline = 0.001  # a minute is the least that a manifest may ask for

    run = Run(local.plan, begin(local).record, local.site, watch)
    run.carry_out()

    assert run.failure is not None
    assert run.failure.failure is FailureClass.DEADLINE
    assert "activeDeadlineSeconds" in run.failure.hint
    assert trained_again(tmp_path, other, store)["resumedFrom"] >= max(steps) - 1


def test_a_run_names_all_that_it_will_need_from_its_beginning(job: dict[str, Any], store: Path, tmp_path: Path) -> None:
    """So that gc keeps it, and two stages that refresh the record at once cannot lose each other's keys."""
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    local = begin(open_job(Wanted(read_manifest(tmp_path / "job.yaml"), tmp_path / "out", str(store))))
    runs = read_runs(local.site.artifacts.store, "default")

    named = runs[f"default/runs/{local.record.uid}.json"].keys
    assert {(item.kind, item.key) for item in named} == set(local.plan.keys())


def test_a_second_run_in_the_same_folder_is_refused(job: dict[str, Any], store: Path, tmp_path: Path) -> None:
    """Two runs never write into one folder at once."""
    other = trained_with(job, seed=9)
    run = Running(tmp_path, other, store)
    run.until(lambda event: event["event"] == "started")
    refused = run_job(tmp_path, other, STORE=str(store))
    end_at_once(run)

    assert refused.code == 2
    assert "another run is working in" in refused.stderr
