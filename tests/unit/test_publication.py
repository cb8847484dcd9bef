"""What publish writes beside the files: Modelfile, model card, picture; and what it withholds."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from support.builders import a_spec, resolved
from support.gguf_stages import stage_work
from tunesmith_api.effective import resolve_settings
from tunesmith_api.gates import Verdict
from tunesmith_api.measuring import Gates, OnFailure
from tunesmith_api.report import BaseModelReport, FileReport, GateReport, Report
from tunesmith_api.resolved import ResolvedDataset
from tunesmith_api.stages import Kind, Stage
from tunesmith_trainer import publish
from tunesmith_trainer.publication.card import model_card
from tunesmith_trainer.publication.curve import loss_curve
from tunesmith_trainer.publication.modelfile import ModelfileFacts, modelfile
from tunesmith_trainer.publication.verdicts import is_published, job_gates

FIGURES = {
    "bitsPerWeight": 6.27,
    "perplexityIncrease": {"value": 0.161, "error": 0.012},
    "klDivergence": {"mean": 0.0291},
    "sameTop": {"value": 0.882},
    "score": {"metric": "Labels", "value": 0.84, "low": 0.75, "high": 0.92, "n": 60},
}


def a_report(*, failed: bool = False) -> Report:
    verdict = "Failed" if failed else "Passed"
    gate = GateReport(name="maxPerplexityIncrease", verdict=verdict, value=1.6, threshold=0.5)
    file = FileReport(
        name="bot-Q4_K_M.gguf",
        type="Q4_K_M",
        bytes=105_000_000,
        sha256="f" * 64,
        verdict=verdict,
        published=not failed,
        gates=(gate,),
        figures=FIGURES,
    )
    score = {"metric": "Labels", "value": 0.02, "low": 0.0, "high": 0.05, "n": 60}
    return Report(
        job="bot",
        verdict=verdict,
        base=BaseModelReport(name="SmolLM2", uri="hf://org/smol", revision="0" * 40, digest="sha256:ab"),
        files=(file,),
        evaluation={"base": {"score": score, "loss": 2.5}, "tuned": {"score": FIGURES["score"], "loss": 0.4}},
        baseline={"chunks": 40, "contextLength": 512, "tokens": 20_480, "ownTokens": 480, "generalTokens": 20_000},
        training={"engine": "Transformers", "method": "LoRA", "steps": 150, "trainLoss": 0.2, "evalLoss": 0.25},
    )


FACTS = {"curve": True, "learning_rate": 0.001, "base_repo": "org/smol", "license": "apache-2.0", "datasets": ()}


def test_the_card_shows_each_file_with_its_figures() -> None:
    """What a reader of the hub needs stands in one table."""
    card = model_card(a_report(), FACTS | {"files": {"adapter/adapter_config.json": ()}})

    assert "| `bot-Q4_K_M.gguf` | Q4_K_M | 105 MB | 6.27 | 0.161 ± 0.012 | 0.0291 | 88.2 % | 84.0 % | Passed |" in card
    assert (
        "| Labels on 60 held-out prompts (95 % interval) | 2.0 % (0.0 % to 5.0 %) | 84.0 % (75.0 % to 92.0 %) |" in card
    )
    assert "40 windows of\n512 tokens (480 of these tokens are of held-out answers, 20000 of general text)." in card
    assert "base_model: org/smol" in card
    assert "adapter/" in card


def test_the_card_names_datasets_that_have_a_public_address() -> None:
    """As the hub's cards do; a bucket, a folder or a signature is nobody's business."""
    revision = "c" * 40
    public: list[dict[str, Any]] = [{"source": "hf://org/rows"}, {"source": "https://host/rows.jsonl"}]
    private: list[dict[str, Any]] = [
        {"source": "https://host/rows.jsonl?signature=x"},
        {"source": "https://user:word@host/rows.jsonl"},
        {"source": "hf://org/secret", "secretRef": {"name": "hub"}},
        {"source": "s3://bucket/rows.jsonl"},
        {"source": "file://home/rows.jsonl"},
    ]
    spec = a_spec(datasets=[*public, *private])
    pinned = [
        ResolvedDataset(
            uri=dataset.source, digest=f"sha256:{number}", size=1, revision=revision if not number else None
        )
        for number, dataset in enumerate(spec.datasets)
    ]
    named = resolve_settings("bot", spec, resolved(spec).model_copy(update={"datasets": pinned})).publish.datasets
    card = model_card(a_report(), FACTS | {"files": {}, "datasets": named})

    assert "\ndatasets: [org/rows]\n" in card
    assert f"Dataset: hf://org/rows@{revision} (`sha256:0`)." in card
    assert "Dataset: https://host/rows.jsonl (`sha256:1`)." in card
    assert [origin.uri for origin in named[2:]] == [None] * 5
    assert "Dataset: `sha256:2`.\nDataset: `sha256:3`." in card


def test_the_card_says_what_is_withheld_and_why() -> None:
    """A file that failed is not offered, and not hidden either."""
    card = model_card(a_report(failed=True), FACTS | {"files": {}})

    assert "| `bot-Q4_K_M.gguf`" not in card
    assert "Q4_K_M was made and is withheld: it failed maxPerplexityIncrease (1.600 against 0.5)" in card


def test_the_report_has_all_of_the_datasets_report_but_its_rows(tmp_path: Path) -> None:
    """Lengths, duplicates and dropped rows with their lines are told; examples, which hold rows, are not."""
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    (dataset / "figures.json").write_text(json.dumps({"trainRows": 40, "vocabulary": {"tokens": 9}}))
    told = {"trainRows": 40, "lengths": {"p50": 7}, "invalid": [{"file": "a.jsonl", "line": 3, "reason": "is no JSON"}]}
    (dataset / "report.json").write_text(json.dumps(told | {"examples": [{"parts": [{"text": "secret"}]}]}))
    spec = a_spec()
    settings = resolve_settings("job", spec, resolved(spec)).publish
    base = {"name": "model", "uri": "hf://org/model", "digest": "sha256:0"}

    work = stage_work(Stage.PUBLISH, {Kind.DATASET: dataset}, tmp_path / "s", settings, meta={Kind.BASE: base})
    folder = publish.run(work).outputs[Kind.PUBLICATION].folder

    report = json.loads((folder / "report.json").read_text())
    assert report["dataset"] == told | {"vocabulary": {"tokens": 9}, "texts": {}}
    assert "secret" not in (folder / "report.json").read_text()


def test_a_modelfile_stops_reads_far_enough_and_keeps_the_system_prompt() -> None:
    """P69, P70 and P11: stops, context and the system prompt of the training are all in it, and no TEMPLATE.

    It names the finished file: no ADAPTER, which Ollama reads of few families (P71), and nothing for Ollama to
    quantize (P72).
    """
    facts = ModelfileFacts("bot-Q8_0.gguf", ["<|im_end|>", "<|endoftext|>", "<|im_end|>"], 512, 'Say "yes".', "note")

    lines = modelfile(facts).splitlines()
    assert lines == [
        "# note",
        "# Answers were measured at temperature 0; Ollama samples. For the same ones: PARAMETER temperature 0",
        "FROM ./bot-Q8_0.gguf",
        "PARAMETER num_ctx 512",
        'PARAMETER stop "<|im_end|>"',
        'PARAMETER stop "<|endoftext|>"',
        'SYSTEM """Say "yes"."""',
    ]


def test_the_curve_is_a_picture_of_both_losses() -> None:
    """Well-formed SVG with one line each."""
    log = [{"step": step, "loss": 3.0 / step} for step in range(1, 20)] + [{"step": 10, "evalLoss": 0.5}]

    picture = loss_curve(log, "a <b>")
    assert picture is not None
    root = ET.fromstring(picture)  # noqa: S314  # our own text
    assert len([element for element in root.iter() if element.tag.endswith("polyline")]) == 2


def test_there_is_no_picture_of_nothing() -> None:
    """A training without a log has none."""
    assert loss_curve([], "x") is None


def test_the_axes_have_round_numbers() -> None:
    """A loss falls by factors: what happens near its end is seen too."""
    log = [{"step": step, "loss": 6.1 * 0.96**step} for step in range(1, 139)]

    said = re.findall(r">([\d.]+)</text>", str(loss_curve(log, "x")))

    assert said == ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "50", "100"]
    assert loss_curve([{"step": 1, "loss": 0.0}, {"step": 2, "loss": 0.0}], "x") is not None


def test_a_failed_file_is_published_only_if_asked() -> None:
    """Contract 9."""
    assert not is_published(Verdict.FAILED, OnFailure.WITHHOLD)
    assert is_published(Verdict.FAILED, OnFailure.PUBLISH)
    assert is_published(Verdict.INCONCLUSIVE, OnFailure.WITHHOLD)


def test_the_score_gate_judges_the_lower_end_of_the_gain() -> None:
    """Asked for 30 points, a gain of 50 with an interval down to 20 does not settle it."""
    gates = Gates(min_score_gain=0.3)

    assert job_gates(gates, {"gain": {"value": 0.5, "low": 0.4, "high": 0.6}})[0].verdict is Verdict.PASSED
    assert job_gates(gates, {"gain": {"value": 0.5, "low": 0.2, "high": 0.8}})[0].verdict is Verdict.INCONCLUSIVE
    assert job_gates(gates, {"gain": {"value": 0.1, "low": 0.0, "high": 0.2}})[0].verdict is Verdict.FAILED
    assert job_gates(Gates(), {}) == ()
