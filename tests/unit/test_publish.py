"""publish from artifacts to the folder that is handed over: what a failed gate does to one file, and to no other."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.published_names import all_names
from tunesmith.store import Artifacts, FolderStore
from tunesmith.store.publication import deliver
from tunesmith.store.published import latest
from tunesmith_api.measuring import Gates
from tunesmith_api.quantizations import QuantizationType
from tunesmith_api.report import FileReport, GateReport
from tunesmith_api.settings import PublishSettings
from tunesmith_api.stages import (
    ArtifactReference,
    JobReference,
    Kind,
    Stage,
    StageRequest,
    StageResult,
    StoreLocation,
    fitting,
)
from tunesmith_trainer.frame import Call, _run
from tunesmith_trainer.interruption import Interruption
from tunesmith_trainer.publication.verdicts import failed_gates

ANSWER = {"score": 1.0, "loss": 0.4, "tokens": 3}
ROWS = [{"id": 0, "prompt": [], "reference": "Yes.", "base": ANSWER, "tuned": ANSWER}]
LOG = [{"step": step, "loss": 1 / step, "learningRate": 1e-3} for step in (1, 2, 3)]
SCORE = {"metric": "Labels", "value": 1.0, "low": 0.9, "high": 1.0, "n": 1}


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def measured(rise: float) -> dict[str, str]:
    """A quantized file whose perplexity rises by so much, and its figures."""
    increase = {"value": rise, "error": 0.001}
    figures = {"perplexityIncrease": increase, "logPerplexityIncrease": {"value": rise / 100, "error": 0.001}}
    told = {"bitsPerWeight": 5.0, "klDivergence": {"mean": 0.01}, "sameTop": {"value": 0.9}, "score": SCORE}
    return {
        "model.gguf": f"GGUF {rise}",
        "figures.json": json.dumps(figures | told),
        "answers.jsonl": lines([{"answer": ANSWER}]),
    }


# One of a name of its own, as some owners call theirs.
LICENCES = ("LICENSE", "LICENSE-APACHE", "NOTICE.txt")
INPUTS: dict[tuple[Kind, str | None], dict[str, str]] = {
    (Kind.BASE, None): {"config.json": "{}", **dict.fromkeys(LICENCES, "as the model's owner wrote it")},
    (Kind.DATASET, None): {
        "figures.json": json.dumps({"family": "smollm2"}),
        "report.json": "{}",
        "gate.txt": "what quantizations are measured on",
    },
    (Kind.ADAPTER, None): {
        "figures.json": json.dumps({"method": "LoRA", "engine": "Transformers", "steps": 3, "trainLoss": 0.3}),
        "log.jsonl": lines(LOG),
        "adapter_config.json": "{}",
        "adapter_model.safetensors": "weights",
    },
    (Kind.GGUF, None): {"figures.json": "{}", "model.gguf": "GGUF", "adapter.gguf": "GGUF"},
    (Kind.LOGITS, None): {"figures.json": json.dumps({"chunks": 4, "contextLength": 512})},
    (Kind.EVALUATION, None): {"figures.json": json.dumps({"tuned": {"score": SCORE}}), "answers.jsonl": lines(ROWS)},
    (Kind.QUANTIZED, "Q2_K"): measured(3.0),
    (Kind.QUANTIZED, "Q8_0"): measured(0.01),
}
META = {"name": "SmolLM2", "uri": "hf://org/smol", "revision": None, "digest": "sha256:ab", "license": "apache-2.0"}


def published(tmp_path: Path, on_failure: str) -> tuple[Path, dict[str, Any]]:
    """The folder of a publication of two types, of which Q2_K fails a gate; the stage's headline figures."""
    artifacts = Artifacts(FolderStore(tmp_path / "store"), "default")
    references = []
    for number, ((kind, name), files) in enumerate(INPUTS.items()):
        (tmp_path / "made" / str(number)).mkdir(parents=True)
        for path, text in files.items():
            (tmp_path / "made" / str(number) / path).write_text(text)
        references.append(ArtifactReference(kind=kind, key=f"{number:064}", name=name))
        artifacts.commit(kind, f"{number:064}", tmp_path / "made" / str(number), meta=META)
    settings = PublishSettings(
        job_name="bot", gates=Gates(on_failure=on_failure), context_length=512, system_prompt={"mode": "Keep"}
    )
    request = StageRequest(
        stage=Stage.PUBLISH,
        job=JobReference(name="bot", namespace="default", uid="u"),
        store=StoreLocation(uri=str(tmp_path / "store")),
        inputs=tuple(references),
        outputs=(ArtifactReference(kind=Kind.PUBLICATION, key="f" * 64),),
        settings=settings.to_json_dict(),
    )
    (tmp_path / "work").mkdir()
    result = _run(Call(request, tmp_path / "work", tmp_path / "fetched", artifacts, Interruption(request.stage)))
    deliver(artifacts, "f" * 64, tmp_path / "out")
    known = latest(artifacts, "bot")
    assert known is not None
    assert {file.path for file in known.files} == names_in(tmp_path / "out")
    return tmp_path / "out", dict(result.figures)


def names_in(out: Path) -> set[str]:
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    return {name for name in files if not name.startswith(".tunesmith/")}


@pytest.mark.parametrize("on_failure", ["Withhold", "Publish"])
def test_a_failed_file_is_withheld_or_marked_and_the_other_is_published(tmp_path: Path, on_failure: str) -> None:
    """Contract 9, in the folder, the report and the card; no name that the check before a run does not know of."""
    out, headline = published(tmp_path, on_failure)
    files = {file["type"]: file for file in json.loads((out / "report.json").read_text())["files"]}
    card = (out / "README.md").read_text()
    rows = {line.split("|")[1].strip(): line for line in card.splitlines() if line.startswith("| `")}
    is_there = on_failure == "Publish"

    expected = set(all_names("bot", ["Q2_K", "Q8_0"], ["config.json", *LICENCES]))
    assert names_in(out) == (expected if is_there else expected - {"bot-Q2_K.gguf", "Modelfile.Q2_K"})
    assert {name: (file["verdict"], file["published"]) for name, file in files.items()} == {
        "Q2_K": ("Failed", is_there),
        "Q8_0": ("Passed", True),
    }
    assert rows.keys() == ({"`bot-Q2_K.gguf`", "`bot-Q8_0.gguf`"} if is_there else {"`bot-Q8_0.gguf`"})
    assert rows["`bot-Q8_0.gguf`"].endswith("| Passed |")
    if is_there:
        assert rows["`bot-Q2_K.gguf`"].endswith("| Failed |")
    assert ("Q2_K was made and is withheld: it failed maxPerplexityIncrease (3.000 against 0.5)" in card) != is_there
    assert headline == {
        "verdict": "Failed",
        "onFailure": on_failure,
        "passed": 1,
        "files": 2,
        "verdicts": {"Q2_K": "Failed", "Q8_0": "Passed"},
        "failedGates": "Q2_K fails maxPerplexityIncrease (3 against 0.5)",
    }


def test_every_verdict_fits_into_the_result() -> None:
    """Contract 5: a pod says no more than 4,096 bytes, of all types too."""
    gate = GateReport(name="maxLogPerplexityIncrease", verdict="Failed", value=1.0, error=0.1, threshold=0.1)
    files = [
        FileReport(
            name="",
            type=type_,
            bytes=1,
            sha256="",
            verdict="Inconclusive",
            published=True,
            gates=(gate,) * 8,
            figures={},
        )
        for type_ in QuantizationType
    ]
    figures = {"verdicts": {file.type: file.verdict for file in files}, "failedGates": failed_gates(files, [gate])}
    result = StageResult(stage=Stage.PUBLISH, figures=figures | {"onFailure": "Withhold", "passed": 35, "files": 35})

    assert fitting(result) == result
    assert figures["failedGates"].endswith(f"; and {len(files) - 2} more")


def test_the_report_identifies_the_texts_that_perplexities_are_of(tmp_path: Path) -> None:
    """By their digests, so that two runs' figures are compared only where the texts are the same (P67)."""
    out, _ = published(tmp_path, "Publish")
    gate = INPUTS[Kind.DATASET, None]["gate.txt"]

    assert json.loads((out / "report.json").read_text())["dataset"]["texts"] == {
        "gate": hashlib.sha256(gate.encode()).hexdigest()
    }
