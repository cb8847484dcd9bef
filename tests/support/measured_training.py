"""A training in a process of its own, and the GPU memory that was foreseen for it."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from tunesmith_api.training import Method
from tunesmith_trainer.engines.batching import row_bytes, shape_of
from tunesmith_trainer.engines.precision import Device
from tunesmith_trainer.engines.transformers_engine import GPU_WIDTH_MULTIPLE
from tunesmith_trainer.train import weights_bytes

TESTS = Path(__file__).parents[1]


def train(call: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The result of one call of support.train_child; `folder` takes what it writes."""
    (folder / "calls.json").write_text(json.dumps([{"scratch": str(folder / "scratch"), **call}]))
    files = (folder / "calls.json", folder / "results.json")
    subprocess.run([sys.executable, "-m", "support.train_child", *files], cwd=TESTS, check=True)
    result: dict[str, Any] = json.loads((folder / "results.json").read_text())[0]
    return result


def estimated_bytes(figures: dict[str, Any], base: Path, dataset: Path) -> int:
    """What is foreseen for the weights and for the rows of a batch, each as wide as the longest."""
    import pyarrow.parquet as pq

    rows = pq.read_table(dataset / "train.parquet")["input_ids"].to_pylist()
    width = math.ceil(max(map(len, rows)) / GPU_WIDTH_MULTIPLE) * GPU_WIDTH_MULTIPLE
    shape = shape_of(json.loads((base / "config.json").read_text()))
    row = row_bytes(shape, width, figures["attention"], figures["gradientCheckpointing"])
    return weights_bytes(base, Method(figures["method"]), Device.CUDA) + int(figures["batchSize"]) * row
