"""Speed and memory of every method and engine on this machine's GPU, as a table of figures.

usage: PYTHONPATH=tests python bench/gpu.py MODEL [TOKENS]

MODEL is a folder with config.json and tokenizer.json. Without weights it gets random ones: neither speed nor memory
depends on their values. Rows are some TOKENS long (512 unless told), 16 make a step. The peak's share is of what
batching foresees (trainer/tunesmith_trainer/engines/batching.py). docs/benchmarks.md keeps what was found.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from support.datasets import Conversation, capitals, write_dataset
from support.measured_training import estimated_bytes, train

STEPS = 20
METHODS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "QLoRA": {"optimizer": "PagedAdamW8bit"},
    "Full": {"lora": None, "learning_rate": 1e-5},
}
# Tokens of one conversation of support.datasets.capitals, on average.
TURN_TOKENS = 56


def weighted(model: Path, folder: Path) -> Path:
    """The model folder itself, or a copy with random weights in bfloat16."""
    if any(model.glob("*.safetensors")):
        return model
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        made = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model), dtype=torch.bfloat16)
    made.save_pretrained(folder)
    shutil.copytree(model, folder, dirs_exist_ok=True)
    return folder


def long_rows(count: int, tokens: int) -> list[Conversation]:
    """Conversations of several turns."""
    turns = max(1, tokens // TURN_TOKENS)
    short = capitals(count * turns)
    return [[turn for row in short[index * turns : (index + 1) * turns] for turn in row] for index in range(count)]


def measure(base: Path, dataset: Path, engine: str, method: str) -> str:
    """A row of the table."""
    settings = {"max_steps": STEPS, "effective_batch_size": 16, "max_sequence_length": 8192, "learning_rate": 1e-4}
    call = {"base": str(base), "dataset": str(dataset), "execution": {"use_gpu": True}}
    with tempfile.TemporaryDirectory() as scratch:
        made = {**settings, **METHODS[method], "method": method, "engine": engine}
        figures = train({**call, "settings": made}, Path(scratch))["figures"]
    peak = figures["peakGpuMemoryBytes"]
    share = peak / estimated_bytes(figures, base, dataset)
    how = f"{figures['batchSize']} x {figures['accumulation']}"
    again = "yes" if figures["gradientCheckpointing"] else "no"
    speed = round(figures["tokensPerSecond"])
    losses = f"{figures['firstLoss']:.3f} | {figures['trainLoss']:.3f}"
    return f"| {method} | {engine} | {how} | {again} | {speed:,} | {peak / 2**30:.2f} GiB | {share:.2f} | {losses} |"


def main() -> None:
    model, tokens = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 512
    with tempfile.TemporaryDirectory() as folder:
        base = weighted(model, Path(folder) / "model")
        rows = long_rows(128, tokens)
        dataset = write_dataset(Path(folder) / "data", model, {"train": rows, "eval": rows[:8]})
        print(json.loads((dataset / "figures.json").read_text())["maxLength"], "tokens in the longest row")
        print("| method | engine | rows x times | checkpointing | tokens/s | peak | of the estimate | first | loss |")
        print("|---|---|---|---|---|---|---|---|---|")
        for method in METHODS:
            for engine in ("Transformers", "Unsloth"):
                print(measure(base, dataset, engine, method), flush=True)


if __name__ == "__main__":
    main()
