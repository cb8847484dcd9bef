"""The whole chain with each method and engine, on the first layers of the real model: what one makes the next reads.

The whole model goes through all of them in test_run_elsewhere.py (slow); LoRA with Transformers in test_run.py, and
with Unsloth where an adapter is measured that is there.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from support.models import cut, smollm2
from support.runs import manifest, run_job

LAYERS = 2
METHODS_AND_ENGINES = [("Full", "Unsloth"), ("QLoRA", "Transformers"), ("Full", "Transformers"), ("QLoRA", "Unsloth")]


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


def carried_out(folder: Path, model: Path, store: Path, how: tuple[str, str]) -> None:
    """Run a job with this method and engine; it has to end in a measured file."""
    method, engine = how
    report, started = published(folder, a_job({"source": f"file://{model}"}, method=method, engine=engine), store)

    assert {"train", "convert"} <= set(started)
    assert (report["training"]["method"], report["training"]["engine"]) == how
    (file,) = report["files"]
    assert file["figures"]["klDivergence"]["mean"] >= 0
    assert (folder / "out" / "small-Q8_0.gguf").stat().st_size == file["bytes"]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "engine"), METHODS_AND_ENGINES)
def test_each_ends_in_a_measured_file(tmp_path: Path, model: Path, store: Path, method: str, engine: str) -> None:
    """And hands its adapter over, which full weights have not."""
    carried_out(tmp_path, model, store, (method, engine))

    assert (tmp_path / "out" / "adapter").exists() == (method != "Full")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, model: Path, store: Path) -> Path:
    """What LoRA with Unsloth hands over."""
    folder = tmp_path_factory.mktemp("first")
    carried_out(folder, model, store, ("LoRA", "Unsloth"))
    return folder / "out" / "adapter"


def test_an_adapter_that_is_there_is_measured(tmp_path: Path, model: Path, store: Path, adapter: Path) -> None:
    """`model.adapter` with `method: None`: nothing is trained."""
    taken = a_job({"source": f"file://{model}", "adapter": f"file://{adapter}"})
    taken["spec"]["training"] = {"method": "None", "maxSequenceLength": 128}
    _, started = published(tmp_path, taken, store)

    assert "train" not in started
    assert weights(tmp_path / "out" / "adapter") == weights(adapter)


@pytest.mark.slow
def test_an_adapter_that_is_there_is_trained_on(tmp_path: Path, model: Path, store: Path, adapter: Path) -> None:
    """`model.adapter` with a method: training goes on from it."""
    further = a_job({"source": f"file://{model}", "adapter": f"file://{adapter}"})
    report, started = published(tmp_path, further, store)

    assert "train" in started
    assert report["training"]["steps"] == 2
    assert weights(tmp_path / "out" / "adapter") != weights(adapter)


def weights(adapter: Path) -> bytes:
    return (adapter / "adapter_model.safetensors").read_bytes()
