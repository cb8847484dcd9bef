"""docs/json.md names every field that the commands write with --json."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cli import called
from support.llama_cpp_folders import a_chatting_server
from support.tiny_sources import write_sources
from tunesmith.cli.status import document
from tunesmith.cli.view import json_lines
from tunesmith.cluster.seen import seen_job
from tunesmith.local.runner import Event
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.progress import ProgressReport
from tunesmith_api.stages import Kind, Stage, StageResult, failure_of

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
# Below these, names are those of stages, types and findings.
OPEN = {"metrics", "figures", "facts", "settings", "fileBytes", "reports"}


def section(*commands: str) -> str:
    """What the page says of some commands, which share a heading."""
    found = re.search(rf"^## {', '.join(commands)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def names(told: Any, path: str = "") -> Iterator[str]:
    """The names of all fields of JSON, but for those that stand for anything."""
    if isinstance(told, list):
        for item in told:
            yield from names(item, path)
    if isinstance(told, dict):
        for name, value in told.items():
            yield name
            if name not in OPEN or (name == "settings" and isinstance(value, list)):
                yield from names(value, name)


def undescribed(told: Any, text: str) -> set[str]:
    """The fields that a text does not name."""
    return {name for name in names(told) if f"`{name}`" not in text}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job whose sources are there, and a finished run."""
    spec = {"model": {"source": "file://model"}, "datasets": [{"source": "file://rows.jsonl"}]}
    job = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "j"}, "spec": spec}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    (tmp_path / "out").mkdir()
    file = {"name": "j-Q8_0.gguf", "type": "Q8_0", "verdict": "Passed", "published": True}
    (tmp_path / "out" / "report.json").write_text(json.dumps({"files": [file], "dataset": {"systemPrompt": "Be."}}))
    (tmp_path / "out" / "answers.jsonl").write_text('{"id": 1, "prompt": "Hi", "tuned": {"text": "Ho"}}\n')
    return write_sources(tmp_path)


@pytest.mark.parametrize(
    ("heading", "arguments"),
    [
        (("plan",), ("plan", "job.yaml")),
        (("validate",), ("validate", "wrong.yaml")),
        (("doctor",), ("doctor",)),
        (("show", "compare"), ("compare", "out", "out")),
        (("chat",), ("chat", "out", "--prompt", "Hi")),
        (("gc",), ("gc", "--dry-run")),
        (("run",), ("run", "wrong.yaml", "--output", "new")),
    ],
    ids=lambda value: value[0],
)
def test_every_field_of_a_command_is_described(
    folder: Path, monkeypatch: pytest.MonkeyPatch, heading: tuple[str, ...], arguments: tuple[str, ...]
) -> None:
    """One object, alone on standard output."""
    (folder / "wrong.yaml").write_text((folder / "job.yaml").read_text() + "  suspnd: true\n")
    tools = a_chatting_server(folder / "tools", "Ho") if arguments[0] == "chat" else folder
    monkeypatch.chdir(folder)
    ran = called(*arguments, "--json", TUNESMITH_CACHE=str(folder / "cache"), TUNESMITH_LLAMA_CPP=str(tools))
    told = json.loads(ran.stdout)

    assert len(told) > 1
    assert undescribed(told, section(*heading)) == set()


def test_every_field_of_a_job_in_a_cluster_is_described() -> None:
    """Its status is the object's own, which the CRD describes."""
    meta = {"name": "bot", "namespace": "team", "uid": "uid", "resourceVersion": "1"}
    told = document(seen_job({"metadata": meta, "spec": {}}))

    assert undescribed(told | {"status": {}}, section("status")) == set()


def test_every_field_of_an_event_is_described() -> None:
    """Of each kind."""
    failure = failure_of(StageFailure(FailureClass.ARTIFACT_CORRUPT, "bad", None, (Kind.GGUF, "k")), Stage.CONVERT)
    result = StageResult(stage=Stage.QUANTIZE, name="Q8_0", reused=True, figures={"a": 1}, failure=failure)
    report = ProgressReport("quantize-Q8_0", 1, None, {"step": "1"})
    stream = io.StringIO()
    write = json_lines(stream)
    for what in ("started", "progress", "done", "failed", "stopping"):
        write(
            Event(what, "quantize-Q8_0", report if what == "progress" else None, result if what == "failed" else None)
        )
    events = [json.loads(line) for line in stream.getvalue().splitlines()]

    assert undescribed(events, section("run")) == set()
    assert [event["event"] for event in events if f"| `{event['event']}` |" not in PAGE] == []
