"""`tunesmith validate` names the field and line of what is wrong, looks at every source, and tells wrong from away."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from support.cli import called
from support.gpu import NO_GPU, folder_with_nvidia_smi
from support.hub import serving_hub
from support.runs import Ran, tunesmith
from support.tiny_sources import MODEL, ROWS, write_sources
from tunesmith.cli.app import app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model and rows that are all right."""
    return write_sources(tmp_path)


def checked(folder: Path, *more: str, environment: dict[str, str] | None = None, **spec: Any) -> Ran:
    """Validate a manifest of these fields; its lines are those of the dumped text."""
    fields = {"model": {"source": "file://model"}, "datasets": [{"source": "file://rows.jsonl"}]} | spec
    job = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "j"}, "spec": fields}
    (folder / "job.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
    own = {"TUNESMITH_CACHE": str(folder / "cache"), "TUNESMITH_SECRETS": str(folder / "secrets")}
    if environment is not None:  # what is read when a module is imported needs a process of its own
        return tunesmith("validate", folder / "job.yaml", *more, **own, **environment)
    ran = CliRunner().invoke(app, ["validate", str(folder / "job.yaml"), *more], env=own)
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return Ran(ran.exit_code, ran.stdout, ran.stderr)


def problems(ran: Ran) -> list[tuple[str, int | None, str]]:
    """Path, line and class of what was found."""
    return [(each["path"], each["line"], each["what"].split(":")[0]) for each in json.loads(ran.stdout)["problems"]]


def test_what_is_right_is_valid_and_says_what_is_there(folder: Path) -> None:
    ran = checked(folder)

    assert (ran.code, ran.stderr) == (0, "")
    assert "Rows (PromptCompletion): read 60" in ran.stdout
    assert "prepare drops rows of more than" in ran.stdout
    assert "j is valid" in ran.stdout


def test_more_than_model_or_rows_have_is_a_note(folder: Path) -> None:
    """What is asked for is not what is done; with what fits, nothing is said."""
    ran = checked(folder, training={"maxSequenceLength": 100_000, "effectiveBatchSize": 4000})

    assert ran.code == 0
    assert "spec.training.maxSequenceLength is 100000, but the model reads" in ran.stdout
    assert re.search(r"effectiveBatchSize is 4000, but there are \d+ rows to train on", ran.stdout)
    fits = checked(folder, training={"maxSequenceLength": 64, "effectiveBatchSize": 4})
    assert not re.search("maxSequenceLength is|effectiveBatchSize is", fits.stdout)


@pytest.mark.parametrize("command", ["validate", "plan"])
@pytest.mark.parametrize("given", ["-", "/dev/fd/{}"])
def test_a_manifest_may_come_through_a_pipe(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, given: str
) -> None:
    """Which is read only once; relative sources start at the working folder."""
    checked(folder)
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "wb") as writing:
        writing.write((folder / "job.yaml").read_bytes())
    monkeypatch.chdir(folder)
    with os.fdopen(ours) as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        ran = called(command, given.format(ours), TUNESMITH_CACHE=str(folder / "cache"))

    assert (ran.code, ran.stderr) == (0, "")
    name = "standard input" if given == "-" else given.format(ours)
    assert (f"{name}: j is valid." if command == "validate" else "tunesmith validate JOB.YAML") in ran.stdout


def test_every_source_is_looked_at_and_each_fault_has_its_place(folder: Path) -> None:
    """A file that is not there is wrong here and everywhere (2), and hides no fault of another source."""
    (folder / "model" / "model.safetensors").rename(folder / "model" / "pytorch_model.bin")
    datasets = [{"source": "file://rows.jsonl"}, {"source": "file://nowhere.jsonl"}]
    ran = checked(folder, "--json", datasets=datasets)

    assert ran.code == 2
    assert problems(ran) == [
        ("spec.model.source", 7, "ModelInvalid"),
        ("spec.datasets[1].source", 10, "SourceAbsent"),
    ]
    text = checked(folder, datasets=datasets)
    assert "spec.datasets[1].source (line 10): SourceAbsent: file://nowhere.jsonl: there is no" in text.stdout


def test_rows_are_looked_at_without_the_model(folder: Path) -> None:
    """The model's hub is away: that is said, and the broken row of the second dataset is found all the same."""
    (folder / "more.jsonl").write_text(ROWS.replace("What", "Why") + "{broken\n")
    ran = checked(
        folder,
        "--json",
        model={"source": "hf://org/name"},
        datasets=[{"source": "file://rows.jsonl"}, {"source": "file://more.jsonl"}],
        environment={"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"},
    )

    assert ran.code == 2
    assert problems(ran) == [("spec.datasets[1].source", 10, "DatasetInvalid")]
    said = json.loads(ran.stdout)
    assert "line 61" in said["problems"][0]["what"]
    assert ["cannot be reached" in note for note in said["notes"]] == [True]
    assert "goes on" not in said["notes"][0]
    assert said["notChecked"] == ["spec.model.source"]


@pytest.mark.parametrize(
    ("dataset", "note"),
    [
        ({"source": "s3://own/rows.jsonl", "endpoint": "http://127.0.0.1:9", "secretRef": {"name": "s"}}, "s3://own/r"),
        ({"source": "s3://own/rows.jsonl", "secretRef": {"name": "absent"}}, "the Secret 'absent' is not there"),
        ({"source": "https://127.0.0.1:9/rows.jsonl"}, "no whole answer"),
        ({"source": "pvc://claim/rows.jsonl"}, "is a claim of a cluster"),
    ],
)
def test_what_is_only_away_from_here_is_not_wrong(folder: Path, dataset: dict[str, Any], note: str) -> None:
    """It may well be there where the job runs; the store is not blamed for it."""
    (folder / "secrets" / "s").mkdir(parents=True)
    for key in ("accessKey", "secretKey"):
        (folder / "secrets" / "s" / key).write_text("x")
    ran = checked(folder, datasets=[dataset])

    assert ran.code == 0, ran.stdout
    assert "Not checked from here: " in ran.stdout
    assert note in ran.stdout
    assert "the manifest is valid; not checked: spec.datasets[0].source." in ran.stdout
    assert "store" not in ran.stdout


def test_many_broken_rows_are_few_lines_and_one_hint(folder: Path) -> None:
    """For a program each problem has it."""
    (folder / "rows.jsonl").write_text(ROWS + "{broken\n" * 500 + '{"prompt": "x", "completion": ""}\n')
    ran, told = checked(folder), json.loads(checked(folder, "--json").stdout)

    assert "500 of 561 rows: is not JSON" in ran.stdout
    assert ran.stdout.count("Correct the named rows") == 1
    assert len(ran.stdout.splitlines()) == 3
    assert ["Correct the named rows" in each["right"] for each in told["problems"]] == [True, True]


def test_a_file_that_cannot_be_read_is_told_at_its_own_dataset(folder: Path) -> None:
    """Not at the list of all of them."""
    (folder / "more.csv").write_bytes("prompt,completion\nWie?,Schön\n".encode("latin-1"))
    ran = checked(folder, "--json", datasets=[{"source": "file://rows.jsonl"}, {"source": "file://more.csv"}])

    assert problems(ran) == [("spec.datasets[1].source", 10, "DatasetInvalid")]
    assert "CSV UTF-8" in json.loads(ran.stdout)["problems"][0]["right"]


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        (
            {"percent": 0.1},
            ["evaluation.percent 0.1 of 60 rows is 0, but 8 are held out, which is the least; did you mean 10?"],
        ),
        ({}, ["evaluation.percent 10 of 60 rows is 6, but 8 are held out, which is the least."]),
        ({"percent": 20}, []),
        ({"percent": 20, "prompts": 12}, []),
        ({"percent": 20, "prompts": 50}, ["evaluation.prompts is 50, but 12 different prompts are held out: all are"]),
        ({"dataset": {"source": "file://own.jsonl"}, "prompts": 30}, ["evaluation.prompts is 30, but 20 different"]),
    ],
)
def test_what_is_held_out_otherwise_than_asked_for_is_noted(
    folder: Path, evaluation: dict[str, Any], said: list[str]
) -> None:
    """The least replaces a small share; a number of prompts that nobody wrote is no wish."""
    (folder / "own.jsonl").write_text("".join(ROWS.replace("What", "Why").splitlines(keepends=True)[:20]))
    told = json.loads(checked(folder, "--json", evaluation=evaluation).stdout)

    notes = [note for note in told["notes"] if note.startswith("evaluation.")]
    assert told["valid"]
    assert len(notes) == len(said)
    assert all(note.startswith(start) for note, start in zip(notes, said, strict=True))


AWAY = {"source": "pvc://claim/rows.jsonl"}


BROKEN = {"source": "file://broken.jsonl"}
LINE, FILE = (ROWS + "{broken\n", "line 61"), ("[]\n", "no row can be read of ")


@pytest.mark.parametrize(
    ("spec", "broken", "path", "line"),
    [
        ({"datasets": [BROKEN, AWAY]}, LINE, "spec.datasets[0].source", 9),
        ({"datasets": [AWAY, BROKEN]}, FILE, "spec.datasets[1].source", 10),
        ({"datasets": [AWAY], "evaluation": {"dataset": BROKEN}}, FILE, "spec.evaluation.dataset.source", 12),
        ({"datasets": [BROKEN], "evaluation": {"dataset": AWAY}}, LINE, "spec.datasets[0].source", 9),
    ],
)
def test_rows_that_are_here_are_looked_at_whatever_is_away(
    folder: Path, spec: dict[str, Any], broken: tuple[str, str], path: str, line: int
) -> None:
    """The place is the manifest's, though fewer datasets are looked at; what is away is named as not checked."""
    rows, said = broken
    (folder / "broken.jsonl").write_text(rows)
    ran = checked(folder, "--json", **spec)

    assert ran.code == 2, ran.stdout
    assert problems(ran) == [(path, line, "DatasetInvalid")]
    place = path.removeprefix("spec.").removesuffix(".source") if broken is FILE else ""
    assert said + place in json.loads(ran.stdout)["problems"][0]["what"]
    assert len(json.loads(ran.stdout)["notChecked"]) == 1


def test_too_few_rows_are_no_verdict_while_others_are_away(folder: Path) -> None:
    """There may be enough with them; that nothing is known is said."""
    (folder / "few.jsonl").write_text("".join(ROWS.splitlines(keepends=True)[:5]))
    ran = checked(folder, datasets=[{"source": "file://few.jsonl"}, AWAY])

    assert ran.code == 0, ran.stdout
    assert "Rows (PromptCompletion): read 5, invalid 0, duplicates 0." in ran.stdout
    assert "whether they are enough, is not known without the other datasets" in ran.stdout
    assert "not checked: spec.datasets[1].source" in ran.stdout
    assert checked(folder, datasets=[{"source": "file://few.jsonl"}]).code == 2


def test_a_store_that_cannot_be_one_is_wrong(folder: Path) -> None:
    """A folder is looked at and left as it is; a bucket may well be there where the job runs."""
    ran = checked(folder, "--json", store={"uri": "file://rows.jsonl"})

    assert ran.code == 2
    assert problems(ran) == [("spec.store.uri", 11, "SpecInvalid")]
    assert f"the store {folder}/rows.jsonl is a file; it must be a folder" in ran.stdout
    assert checked(folder, store={"uri": "file://new"}).code == 0
    assert not (folder / "new").exists()
    away = checked(folder, store={"uri": "s3://bucket/prefix"})
    assert away.code == 0
    assert "not checked: spec.store.uri." in away.stdout


def test_offline_only_the_manifest_is_looked_at(folder: Path) -> None:
    """Sources that are not there are not missed."""
    (folder / "rows.jsonl").unlink()
    ran = checked(folder, "--offline", "--json")

    assert (ran.code, json.loads(ran.stdout)["valid"]) == (0, True)
    assert json.loads(ran.stdout)["notChecked"] == ["spec.model.source", "spec.datasets[0].source"]
    assert "the manifest is valid; not checked: spec.model.source, spec.d" in checked(folder, "--offline").stdout
    more = checked(
        folder,
        "--offline",
        "--json",
        model={"source": "file://model", "adapter": "file://adapter"},
        evaluation={"dataset": {"source": "file://held-out.jsonl"}},
        store={"uri": "file://store"},
    )
    assert json.loads(more.stdout)["notChecked"] == [
        "spec.store.uri",
        "spec.model.source",
        "spec.model.adapter",
        "spec.datasets[0].source",
        "spec.evaluation.dataset.source",
    ]
    assert checked(folder, "--offline", training={"method": "lora"}).code == 2
    assert checked(folder).code == 2


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"source": "hf://org/absent"}, "does not exist"),
        ({"source": "hf://org/there", "revision": "no"}, "no revision"),
    ],
)
def test_what_a_hub_says_is_not_there_is_wrong(folder: Path, model: dict[str, Any], said: str) -> None:
    """The hub answered: asking again, or from elsewhere, will not find it."""
    with serving_hub() as hub:
        hub.create("org/there", {name: text.encode() for name, text in MODEL.items()})
        ran = checked(folder, "--json", model=model, environment={"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"})

    assert ran.code == 2
    assert problems(ran) == [("spec.model.source", 7, "SourceAbsent")]
    assert said in ran.stdout


def broken_pyarrow(folder: Path, error: str) -> dict[str, Any]:
    """What makes a check of rows fail for real: Parquet, and a pyarrow that cannot be imported."""
    (folder / "broken" / "pyarrow").mkdir(parents=True)
    (folder / "broken" / "pyarrow" / "__init__.py").write_text(f"raise {error}\n")
    (folder / "rows.parquet").write_bytes(b"PAR1")
    return {"datasets": [{"source": "file://rows.parquet"}], "environment": {"PYTHONPATH": str(folder / "broken")}}


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            "ModuleNotFoundError(\"No module named 'pyarrow'\")",
            0,
            "pip install '.[trainer]' in Tunesmith's source folder",
        ),
        ('RuntimeError("a defect")', 1, "the rows could not be checked: RuntimeError: a defect"),
    ],
)
def test_a_check_that_fails_is_no_fault_of_the_manifest(folder: Path, error: str, code: int, said: str) -> None:
    """A package that the base install lacks is a note, a crash is a failure (1); neither is a wrong manifest (2)."""
    ran = checked(folder, **broken_pyarrow(folder, error))

    assert ran.code == code, ran.stdout + ran.stderr
    assert said in " ".join((ran.stdout + ran.stderr).split())


@pytest.mark.parametrize("options", [[], ["--offline"]])
def test_what_does_nothing_here_is_a_note(folder: Path, options: list[str]) -> None:
    """As `run` says it: no fault, and nothing to find out by waiting."""
    ran = checked(folder, "--json", *options, targets=["phone"], priority=3, stages=[{"name": "train"}])

    notes = json.loads(ran.stdout)["notes"]
    assert ran.code == 0
    assert "spec.targets is accepted and not yet used: name quantizations instead." in notes
    assert "Only in a cluster, and without effect here: spec.priority, spec.stages." in notes


ONE_GPU = "NVIDIA L4, 23034, 570.1"


@pytest.mark.parametrize(
    ("training", "answer", "told"),
    [
        pytest.param({"gpu": {"memory": "24Gi"}}, "", True, marks=NO_GPU),
        ({"gpu": {"memory": "24Gi"}}, ONE_GPU, False),
        ({"gpu": {"memory": "24Gi"}, "method": "None"}, "", False),
        ({}, "", False),
    ],
)
def test_a_gpu_that_is_asked_for_and_not_here_is_a_note(
    folder: Path, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any], answer: str, told: bool
) -> None:
    """The job may be meant for another machine; on this one training would be the first to say so."""
    monkeypatch.setenv("PATH", str(folder_with_nvidia_smi(folder / "bin", answer)))
    ran = checked(folder, "--offline", training=training)

    assert ran.code == 0
    assert ("This machine has no GPU, and spec.training.gpu asks for one" in ran.stdout) == told


def test_a_program_gets_its_object_where_a_check_fails_too(folder: Path) -> None:
    """What was found before is not lost with it, and an unfinished check calls nothing valid."""
    broken = broken_pyarrow(folder, 'RuntimeError("a defect")')
    told = json.loads((ran := checked(folder, "--json", **broken)).stdout)

    assert (ran.code, told["valid"], told["problems"]) == (1, False, [])
    assert told["notChecked"] == ["spec.datasets"]
    assert told["failure"]["class"] == "Internal"
    assert "RuntimeError: a defect" in told["failure"]["message"]
    assert "RuntimeError: a defect" in ran.stderr

    (folder / "model" / "config.json").unlink()
    assert checked(folder, **broken).code == 2
    assert json.loads(checked(folder, "--json", **broken).stdout)["problems"][0]["path"] == "spec.model.source"
