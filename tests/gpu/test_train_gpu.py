"""Both engines on a GPU: each method trains, in a process of its own, in about the memory that was foreseen."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.datasets import capitals, write_dataset
from support.models import smollm2

pytestmark = pytest.mark.gpu

TESTS = Path(__file__).parents[1]
SETTINGS: dict[str, Any] = {"max_steps": 30, "effective_batch_size": 8, "learning_rate": 5e-4, "eval_every": 10}
METHODS: dict[str, dict[str, Any]] = {
    "LoRA": {"method": "LoRA"},
    "QLoRA with the paged optimizer": {"method": "QLoRA", "optimizer": "PagedAdamW8bit"},
    "Full": {"method": "Full", "lora": None, "learning_rate": 5e-5},
}


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The real model and a small dataset."""
    folder, whole = tmp_path_factory.mktemp("gpu"), smollm2()
    dataset = write_dataset(folder / "data", whole, {"train": capitals(64), "eval": capitals(8, 1000)})
    return {"base": str(whole), "dataset": str(dataset)}


def train(call: dict[str, Any], folder: Path) -> dict[str, Any]:
    (folder / "calls.json").write_text(json.dumps([{"scratch": str(folder / "scratch"), **call}]))
    files = (folder / "calls.json", folder / "results.json")
    subprocess.run([sys.executable, "-m", "support.train_child", *files], cwd=TESTS, check=True)
    result: dict[str, Any] = json.loads((folder / "results.json").read_text())[0]
    return result


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("engine", ["Transformers", "Unsloth"])
def test_every_method_learns_on_a_gpu(engine: str, method: str, common: dict[str, str], tmp_path: Path):
    """The loss falls, what was trained on is a GPU, and its memory is recorded."""
    settings = {**SETTINGS, **METHODS[method], "engine": engine}
    figures = train({**common, "settings": settings, "execution": {"use_gpu": True}}, tmp_path)["figures"]

    assert figures["device"] == "cuda"
    assert figures["trainLoss"] < figures["firstLoss"] / 2
    assert 0 < figures["peakGpuMemoryBytes"] < 8 * 2**30
    if "PagedAdamW8bit" in str(settings):
        assert figures["optimizer"] == "paged_adamw_8bit"


def test_cpu_and_gpu_compute_the_same_first_loss(common: dict[str, str], tmp_path: Path):
    """One dataset, one model, one figure; bf16 rounds differently on each."""
    losses = []
    for use_gpu in (False, True):
        folder = tmp_path / str(use_gpu)
        folder.mkdir()
        call = {**common, "settings": {**SETTINGS, "max_steps": 1}, "execution": {"use_gpu": use_gpu}}
        losses.append(train(call, folder)["figures"]["firstLoss"])

    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.mark.parametrize("engine", ["Transformers", "Unsloth"])
def test_packing_is_only_used_where_rows_stay_apart(engine: str, common: dict[str, str], tmp_path: Path):
    """P7: whether or not packing was used, the first losses are those without it."""
    losses = []
    for packing in (False, True):
        folder = tmp_path / str(packing)
        folder.mkdir()
        settings = {**SETTINGS, "max_steps": 2, "packing": packing, "engine": engine}
        losses.append(
            train({**common, "settings": settings, "execution": {"use_gpu": True}}, folder)["figures"]["firstLoss"]
        )

    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_a_batch_that_does_not_fit_is_halved_once(common: dict[str, str], tmp_path: Path):
    """P26: on a GPU with little free memory the same step is computed in two halves, and that is recorded."""
    import torch

    # Leave 3 GiB: enough for a part of 512 rows at once, not for all of them.
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(max(0, free - 3 * 2**30), dtype=torch.uint8, device="cuda")
    settings = {**SETTINGS, "max_steps": 1, "effective_batch_size": 64}
    call = {**common, "settings": settings, "execution": {"use_gpu": True, "batch_size": 64}}
    figures = train(call, tmp_path)["figures"]
    del held

    assert figures["batchSize"] in (32, 64)
    assert figures["batchSize"] * figures["accumulation"] == 64
