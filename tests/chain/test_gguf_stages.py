"""imatrix, baseline, quantize and evaluate on the real SmolLM2: small, but nothing is left out."""

import hashlib
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.gguf_stages import (
    Posts,
    answers,
    baseline_work,
    evaluate_work,
    figures_of,
    imatrix_work,
    lines_of,
    quantize_work,
    write_prepared,
)
from support.ggufs import converted, folder_of, smollm2_gguf, with_noise
from support.models import cut, smollm2
from support.training import FolderCheckpoints
from tunesmith.llama_cpp import find_tools
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.quantizations import QUANTIZATIONS, QuantizationType
from tunesmith_api.stages import Kind
from tunesmith_trainer import baseline, evaluate, imatrix, quantize
from tunesmith_trainer.llama.gguf_file import read_gguf
from tunesmith_trainer.llama.importance import Calibrating, Piece, collect, read_importance
from tunesmith_trainer.llama.quantization import Quantizing, mistakes, plan_quantization
from tunesmith_trainer.llama.quantization import quantize as write_quantized

# Questions that SmolLM2 answers with one sentence and an end, before any training.
COUNTRIES = ("France", "Japan", "Italy", "Spain", "Germany", "Egypt", "Norway", "Peru")
CHUNKS = 4


def capitals() -> list[list[dict[str, str]]]:
    return [
        [
            {"role": "user", "content": f"What is the capital of {country}?"},
            {"role": "assistant", "content": f"The capital of {country} is not known to me."},
        ]
        for country in COUNTRIES
    ]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    """The bf16 GGUF and a prepared dataset."""
    root = tmp_path_factory.mktemp("inputs")
    dataset = write_prepared(root / "dataset", smollm2(), capitals())
    return {Kind.GGUF: folder_of(smollm2_gguf(), root / "gguf"), Kind.DATASET: dataset}


@pytest.fixture(scope="module")
def matrix(inputs: dict[Kind, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an importance matrix."""
    outcome = imatrix.run(imatrix_work(inputs, tmp_path_factory.mktemp("imatrix"), CHUNKS))
    return outcome.outputs[Kind.IMATRIX].folder


@pytest.fixture(scope="module")
def logits(inputs: dict[Kind, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the baseline's logits."""
    outcome = baseline.run(baseline_work(inputs, tmp_path_factory.mktemp("baseline"), CHUNKS))
    return outcome.outputs[Kind.LOGITS].folder


def test_an_importance_matrix_covers_the_model_and_says_nothing_of_this_machine(
    inputs: dict[Kind, Path], matrix: Path
) -> None:
    """Every weight of attention and feed-forward has an entry; the matrix names its text, not where it lay."""
    found, figures = read_importance(matrix / "imatrix.gguf"), figures_of(matrix)

    assert (found.chunks, found.datasets, len(found.entries)) == (CHUNKS, ("calibration.txt",), 30 * 7)
    assert (figures["tokens"], figures["ownTokens"] + figures["generalTokens"]) == (CHUNKS * 512, CHUNKS * 512)
    assert str(inputs[Kind.DATASET]).encode() not in (matrix / "imatrix.gguf").read_bytes()


def test_an_importance_matrix_goes_on_where_it_was_interrupted(
    inputs: dict[Kind, Path], matrix: Path, tmp_path: Path
) -> None:
    """Half of the windows were kept; with the other half the sums are those of one run, but for rounding."""
    gguf, text = inputs[Kind.GGUF] / "model.gguf", inputs[Kind.DATASET] / "calibration.txt"
    kept = FolderCheckpoints(tmp_path / "kept")
    (tmp_path / "half").mkdir()
    how = Calibrating(find_tools(), gguf, text, 512, threading.Event(), lambda _: None)
    assert collect(how, Piece(0, CHUNKS // 2, None), tmp_path / "half" / "imatrix.gguf") == CHUNKS // 2
    (tmp_path / "kept").mkdir()
    kept.save(CHUNKS // 2, tmp_path / "half")
    told = Posts()

    work = imatrix_work(inputs, tmp_path / "scratch", CHUNKS, kept)
    outcome = imatrix.run(replace(work, progress=told))

    whole, resumed = (read_importance(folder / "imatrix.gguf") for folder in (matrix, _only(outcome)))
    assert min(told.seen) >= 0.5
    assert resumed.chunks == CHUNKS
    assert all(np.allclose(whole.entries[name][0], resumed.entries[name][0], rtol=0.05) for name in whole.entries)


def test_a_stage_that_was_interrupted_before_it_began_leaves_no_output(
    inputs: dict[Kind, Path], tmp_path: Path
) -> None:
    """As while its inputs were fetched. The failure is the one that runs again without being counted."""
    work = imatrix_work(inputs, tmp_path, 400)
    work.interrupted.set()

    with pytest.raises(StageFailure) as failure:
        imatrix.run(work)

    assert failure.value.failure == FailureClass.INTERRUPTED
    assert not (tmp_path / "imatrix").exists()


def test_a_text_shorter_than_was_asked_for_is_used_whole(inputs: dict[Kind, Path], tmp_path: Path) -> None:
    """The figures say how many windows there were; nothing is used twice."""
    dataset = shutil.copytree(inputs[Kind.DATASET], tmp_path / "dataset")
    (dataset / "calibration.txt").write_text((dataset / "calibration.txt").read_text()[:8_000])

    outcome = imatrix.run(imatrix_work(inputs | {Kind.DATASET: dataset}, tmp_path / "scratch", 50))

    assert 2 <= figures_of(_only(outcome))["chunks"] < 10


def test_markup_in_the_calibration_text_is_read_as_tokens(inputs: dict[Kind, Path], tmp_path: Path) -> None:
    """1,200 ends of turns are 1,200 tokens, two windows; as characters they would be seven times as many (P53)."""
    dataset = shutil.copytree(inputs[Kind.DATASET], tmp_path / "dataset")
    (dataset / "calibration.txt").write_text("<|im_end|>" * 1_200)

    outcome = imatrix.run(imatrix_work(inputs | {Kind.DATASET: dataset}, tmp_path / "scratch", 50))

    assert figures_of(_only(outcome))["chunks"] == 2


def test_a_baseline_stays_within_its_bytes(inputs: dict[Kind, Path], logits: Path, tmp_path: Path) -> None:
    """Fewer windows rather than a larger file (P65)."""
    figures = figures_of(logits)
    assert (figures["chunks"], figures["bytes"]) == (CHUNKS, (logits / "logits.kld").stat().st_size)
    assert 5 < figures["perplexity"] < 60
    # Of 20,700 prepared tokens only these were measured; those of the user's own come first.
    assert (figures["ownTokens"], figures["ownTokens"] + figures["generalTokens"]) == (700, CHUNKS * 512)

    less = baseline.run(baseline_work(inputs, tmp_path, 50, max_bytes=60_000_000))

    assert figures_of(_only(less))["chunks"] == 2
    assert (_only(less) / "logits.kld").stat().st_size <= 60_000_000


def test_a_text_that_is_too_short_is_no_baseline(inputs: dict[Kind, Path], tmp_path: Path) -> None:
    """llama-perplexity exits with 0 on it (P64)."""
    dataset = shutil.copytree(inputs[Kind.DATASET], tmp_path / "dataset")
    (dataset / "gate.txt").write_text("Too short.")

    with pytest.raises(StageFailure) as failure:
        baseline.run(baseline_work(inputs | {Kind.DATASET: dataset}, tmp_path / "scratch", CHUNKS))

    assert failure.value.failure == FailureClass.DATASET_TOO_SMALL


def test_a_quantized_file_is_made_measured_and_talked_with(
    inputs: dict[Kind, Path], matrix: Path, logits: Path, tmp_path: Path
) -> None:
    """Q4_K_M with its matrix: what it is, how far from the baseline, how it answers, what it scores."""
    given = inputs | {Kind.IMATRIX: matrix, Kind.LOGITS: logits}
    outcome = quantize.run(quantize_work(given, tmp_path, "Q4_K_M", answers(len(COUNTRIES), "ChrF")))

    folder = _only(outcome)
    figures = figures_of(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["answers.jsonl", "figures.json", "model.gguf"]
    assert (figures["fileType"], figures["imatrix"]) == (15, True)
    # Rows of 576 are no multiple of 256: 180 of 272 tensors fall back (P59), and the label's 4.9 bits are 6.2.
    assert (figures["fallbacks"]["tensors"], figures["fallbacks"]["of"]) == (180, 272)
    assert 6.1 < figures["bitsPerWeight"] < 6.3
    assert 0.005 < figures["klDivergence"]["mean"] < 0.1
    assert 0.8 < figures["sameTop"]["value"] < 0.99
    assert figures["baselinePerplexity"]["value"] == pytest.approx(figures_of(logits)["perplexity"], rel=0.01)
    chat = figures["chat"]
    assert (chat["answered"], chat["leaks"], chat["templateEqual"]) == (len(COUNTRIES), 0, 1.0)
    assert chat["stopped"] >= len(COUNTRIES) - 1
    assert 0.2 < figures["score"]["low"] <= figures["score"]["value"] <= figures["score"]["high"] < 1
    assert 0 < figures["loss"]["value"] < 10
    assert figures["sha256"] == hashlib.sha256((folder / "model.gguf").read_bytes()).hexdigest()
    # A pod's last words are 4,096 bytes, and a status of 20 files is to stay small.
    assert len(json.dumps(outcome.figures)) < 200
    said = lines_of(folder / "answers.jsonl")
    assert any("Paris" in line["answer"]["text"] for line in said)
    metadata = read_gguf(folder / "model.gguf").metadata
    assert (metadata["quantize.imatrix.file"], metadata["quantize.imatrix.dataset"]) == (
        "imatrix.gguf",
        "calibration.txt",
    )


def test_a_model_of_plain_text_is_asked_to_go_on_with_one(
    inputs: dict[Kind, Path], logits: Path, tmp_path: Path
) -> None:
    """No template is needed, nothing is scored but the loss."""
    texts = [f"The river runs through {country} and on to the sea. " * 4 for country in COUNTRIES[:3]]
    dataset = write_prepared(tmp_path / "dataset", smollm2(), [], texts)
    given = inputs | {Kind.DATASET: dataset, Kind.LOGITS: logits}

    outcome = quantize.run(quantize_work(given, tmp_path / "scratch", "Q8_0", answers(3, "ChrF")))

    figures = figures_of(_only(outcome))
    assert "chat" not in figures
    assert (figures["completion"]["answered"], figures["completion"]["empty"]) == (3, 0)
    assert figures["score"]["metric"] == "Loss"


def test_base_and_tuned_answer_the_same_prompts(inputs: dict[Kind, Path], tmp_path: Path) -> None:
    """A base that is worse on purpose: the other one gains, by score, loss and on general text, beyond doubt.

    P68: these figures are what shows a tuning that did nothing, or that made the model forget.
    """
    worse = with_noise(smollm2_gguf(), tmp_path / "worse.gguf", 0.25)
    given = inputs | {Kind.BASE_GGUF: folder_of(worse, tmp_path / "base")}

    outcome = evaluate.run(evaluate_work(given, tmp_path / "scratch", answers(len(COUNTRIES), "ChrF")))

    figures = figures_of(_only(outcome))
    assert figures["gain"]["value"] == pytest.approx(
        figures["tuned"]["score"]["value"] - figures["base"]["score"]["value"]
    )
    assert figures["lossGain"]["low"] > 0
    rise = figures["forgetting"]["logIncrease"]
    assert rise["value"] + 2 * rise["error"] < 0
    lines = lines_of(_only(outcome) / "answers.jsonl")
    assert [line["prompt"][-1]["role"] for line in lines] == ["user"] * len(COUNTRIES)
    assert all(
        line["base"].keys() == line["tuned"].keys() == {"text", "score", "stopped", "loss", "tokens"} for line in lines
    )
    assert outcome.figures["prompts"] == len(COUNTRIES)


@pytest.fixture(scope="module")
def two_layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2's first two layers, which is enough to try types on."""
    root = tmp_path_factory.mktemp("two-layers")
    return converted(cut(smollm2(), 2, root / "model"), root / "model.gguf")


@pytest.fixture(scope="module")
def small_matrix(inputs: dict[Kind, Path], two_layers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An importance matrix of the two layers."""
    path = tmp_path_factory.mktemp("small-matrix") / "imatrix.gguf"
    text = inputs[Kind.DATASET] / "calibration.txt"
    collect(
        Calibrating(find_tools(), two_layers, text, 512, threading.Event(), lambda _: None), Piece(0, 4, None), path
    )
    return path


# Its blocks have 128 weights, SmolLM2's rows 576, and llama.cpp has no smaller type to fall back to.
UNFIT = QuantizationType.Q1_0


def test_a_type_that_does_not_fit_the_model_is_refused_by_name(two_layers: Path, tmp_path: Path) -> None:
    """The job learns it in a second, from the dry run."""
    how = Quantizing(find_tools(), two_layers, UNFIT, None, tmp_path, threading.Event())

    with pytest.raises(StageFailure, match="Q1_0") as failure:
        plan_quantization(how)

    assert failure.value.failure == FailureClass.CONVERSION_UNSUPPORTED


# One of each kind that llama.cpp treats apart: mixtures of k-quants, one that needs its matrix, plain blocks, floats.
QUICK = {QuantizationType(name) for name in ("Q4_K_M", "Q2_K", "IQ3_XXS", "Q8_0", "Q2_0", "F16", "BF16")}


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(wanted, marks=() if wanted in QUICK else pytest.mark.slow)
        for wanted in QuantizationType
        if wanted is not UNFIT
    ],
)
def test_every_other_type_of_llama_cpp_can_be_made(
    wanted: QuantizationType, two_layers: Path, small_matrix: Path, tmp_path: Path
) -> None:
    """What was asked for is what is read back, for each of them."""
    matrix = small_matrix if QUANTIZATIONS[wanted].gains_from_imatrix else None
    how = Quantizing(find_tools(), two_layers, wanted, matrix, tmp_path, threading.Event())
    plan = plan_quantization(how)

    assert write_quantized(how, tmp_path / "model.gguf") == ()
    assert mistakes(read_gguf(tmp_path / "model.gguf"), read_gguf(two_layers), wanted, plan) == []


def _only(outcome: Any) -> Path:
    (output,) = outcome.outputs.values()
    return Path(output.folder)
