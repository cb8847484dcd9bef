"""``tunesmith run`` on plain texts and a model without a chat template: nothing of it converses."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.models import cut, smollm2
from support.runs import manifest, run_job, tunesmith

pytestmark = pytest.mark.slow

# Written as chat formats that are written out in letters: words of these texts like others.
TEXTS = [
    f"### Instruction\nName town {number} of the valley.\n\n### Response\nUser: Millbrook {number}, by the river."
    for number in range(60)
]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("text")
    base = cut(smollm2(), 2, folder / "base")
    settings = base / "tokenizer_config.json"
    told = json.loads(settings.read_text())
    del told["chat_template"]
    settings.unlink()
    settings.write_text(json.dumps(told))
    rows = folder / "texts.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    job = manifest(
        model={"source": f"file://{base}"},
        datasets=[{"source": f"file://{rows}"}],
        evaluation={"percent": 14, "prompts": 6, "chunks": 4},
        gates={"minAnswersClean": 0, "onFailure": "Publish"},
    )
    ran = run_job(folder, job)
    assert ran.code == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    yield folder / "out"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def report(out: Path) -> dict[str, Any]:
    """The run's report."""
    return dict(json.loads((out / "report.json").read_text()))


def test_texts_are_compared_token_by_token(report: dict[str, Any]) -> None:
    """There is no conversation to render; fixed texts and the beginnings of own ones are tokenized by both."""
    conversion = report["conversion"]

    assert report["dataset"]["chat"] is False
    assert conversion["template"] == {"equal": False, "rendered": 0}
    assert conversion["tokens"]["equal"] == conversion["tokens"]["compared"] > 10


def test_texts_are_continued_and_scored_by_their_loss(report: dict[str, Any]) -> None:
    """The loss of held-out texts is the score that there is, and it falls."""
    evaluation, [file] = report["evaluation"], report["files"]

    assert evaluation["gain"]["metric"] == "Loss"
    assert evaluation["gain"]["value"] > 0
    assert file["figures"]["completion"]["answered"] == evaluation["prompts"] == 6


def test_markup_in_letters_is_no_leak_of_a_text(report: dict[str, Any]) -> None:
    """Texts that are written so go on so."""
    [file] = report["files"]

    assert {gate["name"]: gate["verdict"] for gate in file["gates"]}["noMarkupLeaked"] == "Passed"


def test_chat_goes_on_with_a_text(out: Path) -> None:
    """There is no template that a question could go through, and no system prompt."""
    asked = ("chat", out, "--prompt", "### Instruction\nName town")
    said = json.loads(tunesmith(*asked, "--max-tokens", "8", "--json").stdout)

    assert said.keys() == {"file", "prompt", "answer", "cut"}
    assert said["answer"]
    refused = tunesmith(*asked, "--system", "Be brief.")
    assert (refused.code, "trained on plain texts" in refused.stderr) == (2, True)
