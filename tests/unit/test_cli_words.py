"""What users and models write is shown as it stands, whatever Rich would make of brackets and colons."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.builders import a_plan
from support.cli import called
from support.llama_cpp_folders import a_chatting_server
from support.tiny_sources import write_sources
from tunesmith.cli.terminal import terminal
from tunesmith.cli.view import board_of, showing
from tunesmith.local.runner import Event
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import StageResult, failure_of

# An opening tag, one that closes nothing (an error in markup), and an emoji code.
ODD = "[x] [INST] it [/INST] [/b] :fire:"
FOLDER = "[x] [b] :fire:"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of that name with a model and rows."""
    found = tmp_path / FOLDER
    found.mkdir()
    return write_sources(found)


def a_manifest(folder: Path, **spec: Any) -> Path:
    """A job of these sources."""
    fields = {"model": {"source": "file://model"}, "datasets": [{"source": "file://rows.jsonl"}]} | spec
    job = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "j"}, "spec": fields}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return folder / "job.yaml"


def a_finished(folder: Path, name: str) -> Path:
    """The output folder of a run whose model's name, prompt and answer are odd."""
    out = folder / name
    out.mkdir()
    file = {"name": "j-Q8_0.gguf", "type": "Q8_0", "bytes": 10**6, "figures": {}, "gates": [], "published": True}
    report = {"job": ODD, "verdict": "Passed", "base": {"name": ODD}, "files": [file | {"verdict": "Passed"}]}
    (out / "report.json").write_text(json.dumps(report))
    (out / "answers.jsonl").write_text(json.dumps({"id": "1", "prompt": f"P {ODD}", "tuned": {"text": f"A {ODD}"}}))
    return out


def test_plan(folder: Path) -> None:
    """Columns' templates, system prompts, the store."""
    prompt = {"mode": "Text", "text": ODD}
    columns = {"prompt": f"{ODD} {{{{ prompt }}}}", "completion": "completion"}
    job = a_manifest(
        folder, datasets=[{"source": "file://rows.jsonl", "columns": columns}], training={"systemPrompt": prompt}
    )
    ran = called("plan", job, "--store", folder / "store", TUNESMITH_CACHE=str(folder / "cache"))

    assert ran.code == 0, ran.stderr
    assert ran.stdout.count(ODD) >= 2
    assert f"{FOLDER}/store" in ran.stdout


def test_compare_and_show(folder: Path) -> None:
    """Prompts, answers, names of models, paths."""
    first, second = a_finished(folder, "one"), a_finished(folder, "two")
    ran = called("compare", first, second)

    assert ran.code == 0, ran.stderr
    assert f"P {ODD}" in ran.stdout
    assert ran.stdout.count(f"A {ODD}") == 2
    assert f"{FOLDER}/one" in ran.stdout
    assert f"{ODD}: gates Passed" in called("show", first).stdout


def test_doctor(folder: Path) -> None:
    """Folders, and the hint that names an extra."""
    ran = called("doctor", TUNESMITH_LLAMA_CPP=str(folder), TUNESMITH_CACHE=str(folder / "cache"))

    assert f"{FOLDER} cannot be used" in ran.stdout


def test_validate(folder: Path) -> None:
    """Problems and notes, in the folder of that name."""
    job = a_manifest(folder, training={"method": ODD}, quantizations=["[/b]"])
    ran = called("validate", job)

    assert ran.code == 2
    assert f"{FOLDER}/job.yaml" in ran.stdout
    assert f"'{ODD}' is not one of the allowed words" in ran.stdout
    assert "'[/b]' is not one" in ran.stdout


def test_gc(folder: Path) -> None:
    """The store's name."""
    ran = called("gc", "--dry-run", "--store", folder / "store", TUNESMITH_CACHE=str(folder / "cache"))

    assert ran.code == 0, ran.stderr
    assert f"{FOLDER}/store" in ran.stdout
    assert f"{FOLDER}/cache" in ran.stdout


def test_run_says_what_it_refuses(folder: Path) -> None:
    """An error's words, on the other stream."""
    ran = called("run", a_manifest(folder, training={"method": "[/b]"}), "--output", folder / "out")

    assert ran.code == 2
    assert f"{FOLDER}/job.yaml" in ran.stderr
    assert "'[/b]' is not one" in ran.stderr


def test_lines_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    """A stage's failure quotes whatever it stumbled over."""
    plan = a_plan()
    failure = failure_of(StageFailure(FailureClass.DATASET_INVALID, ODD))
    with showing(board_of(plan, {}, "j -> out"), terminal(), live=False) as show:
        show(Event("failed", "train", result=StageResult(stage="train", failure=failure)))

    assert f"DatasetInvalid: {ODD}" in capsys.readouterr().out


def test_chat(folder: Path) -> None:
    """What the model answers, and the file's name."""
    tools = a_chatting_server(folder / "tools", ODD)
    ran = called("chat", a_finished(folder, "out"), "-p", "Hi", TUNESMITH_LLAMA_CPP=str(tools))

    assert (ran.code, ran.stdout) == (0, f"{ODD}\n"), ran.stderr


def test_control_characters_give_no_orders(folder: Path) -> None:
    """A model's answer cannot retitle the terminal or write over what stands there."""
    out = a_finished(folder, "out")
    (out / "answers.jsonl").write_text(
        json.dumps({"id": "1", "prompt": "P\x1b[2J", "tuned": {"text": "A\x1b]0;x\x07"}})
    )
    ran = called("compare", out, out)

    assert "\x1b" not in ran.stdout
    assert "\x07" not in ran.stdout
    assert r"A\x1b]0;x\x07" in ran.stdout


def test_an_answer_is_shown_with_its_lines(folder: Path) -> None:
    """What is no order stays: umlauts, tabs, lines."""
    tools = a_chatting_server(folder / "tools", "Grüße\n\tto \x1b[31mall")
    ran = called("chat", a_finished(folder, "out"), "-p", "Hi", TUNESMITH_LLAMA_CPP=str(tools))

    assert ran.stdout == "Grüße\n\tto \\x1b[31mall\n"
