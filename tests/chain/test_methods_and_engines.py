"""The whole chain with each method and engine, on the first layers of the real model: what one makes the next reads.

The whole model goes through all of them in test_run_elsewhere.py (slow); LoRA with Transformers in test_run.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from support.models import cut, smollm2
from support.runs import manifest, run_job

LAYERS = 2
METHODS_AND_ENGINES = [
    ("QLoRA", "Transformers"),
    ("Full", "Transformers"),
    ("LoRA", "Unsloth"),
    ("QLoRA", "Unsloth"),
    ("Full", "Unsloth"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cut(smollm2(), LAYERS, tmp_path_factory.mktemp("model") / "SmolLM2-cut")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that the same rows are prepared and the same base is converted once."""
    return tmp_path_factory.mktemp("store")


def a_job(model: dict[str, str], **training: Any) -> dict[str, Any]:
    return manifest(
        model=model,
        training={"maxSteps": 2, "effectiveBatchSize": 4, "maxSequenceLength": 128, "learningRate": 1e-4} | training,
        evaluation={"percent": 14, "prompts": 2, "metric": "Labels", "chunks": 2},
        quantizations=["Q8_0"],
        # Two layers say nothing that a gate could measure.
        gates={"onFailure": "Publish"},
    )


def published(folder: Path, job: dict[str, Any], store: Path) -> tuple[dict[str, Any], list[str]]:
    """Run to the end; the report, and the stages that were started."""
    ran = run_job(folder, job, STORE=str(store))
    assert ran.code == 0, ran.stdout[-3000:] + ran.stderr[-2000:]
    return json.loads((folder / "out" / "report.json").read_text()), ran.started()


@pytest.mark.parametrize(("method", "engine"), METHODS_AND_ENGINES)
def test_each_ends_in_a_measured_file(tmp_path: Path, model: Path, store: Path, method: str, engine: str) -> None:
    """And hands its adapter over, which full weights have not."""
    report, started = published(tmp_path, a_job({"source": f"file://{model}"}, method=method, engine=engine), store)

    assert {"train", "convert"} <= set(started)
    assert (report["training"]["method"], report["training"]["engine"]) == (method, engine)
    (file,) = report["files"]
    assert file["figures"]["klDivergence"]["mean"] >= 0
    assert (tmp_path / "out" / "small-Q8_0.gguf").stat().st_size == file["bytes"]
    assert (tmp_path / "out" / "adapter").exists() == (method != "Full")


def test_an_adapter_that_is_there_is_measured_or_trained_on(tmp_path: Path, model: Path, store: Path) -> None:
    """`model.adapter`: with `method: None` nothing is trained; with a method training goes on from it."""
    published(tmp_path / "first", a_job({"source": f"file://{model}"}), store)
    adapter = tmp_path / "first" / "out" / "adapter"
    given = {"source": f"file://{model}", "adapter": f"file://{adapter}"}

    taken = a_job(given)
    taken["spec"]["training"] = {"method": "None", "maxSequenceLength": 128}
    _, started = published(tmp_path / "taken", taken, store)
    assert "train" not in started
    assert weights(tmp_path / "taken") == weights(tmp_path / "first")

    report, started = published(tmp_path / "further", a_job(given), store)
    assert "train" in started
    assert report["training"]["steps"] == 2
    assert weights(tmp_path / "further") != weights(tmp_path / "first")


def weights(folder: Path) -> bytes:
    return (folder / "out" / "adapter" / "adapter_model.safetensors").read_bytes()
