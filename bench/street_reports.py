"""What both scripts of a careful user share: the rows as tokens, a batch of them, and a clock of training steps.

Nothing of Tunesmith is in here. Import it after Unsloth, which has to come before transformers.
"""

import json
import time
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, TrainerCallback

Row = dict[str, list[int]]
# A CPU that does not multiply bf16 computes it a hundred times slower than fp32 (measured with AVX2 alone).
_FAST_BF16 = {"avx512_bf16", "amx_bf16"} & set(Path("/proc/cpuinfo").read_text().split())
DTYPE = torch.bfloat16 if torch.cuda.is_available() or _FAST_BF16 else torch.float32
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def encoded_rows(model: str, file: str, train: int, held_out: int) -> tuple[list[Row], list[Row]]:
    """So many rows to train on, then so many to evaluate, with labels only on the answers."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    rows = []
    for line in Path(file).read_text().splitlines()[: train + held_out]:
        messages = json.loads(line)["messages"]
        prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template(messages, tokenize=False).rstrip("\n")
        ids = tokenizer(whole, add_special_tokens=False).input_ids
        start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
        rows.append({"input_ids": ids, "labels": [-100] * start + ids[start:]})
    return rows[:train], rows[train:]


def collate(batch: list[Row]) -> dict[str, torch.Tensor]:
    """Padded to the longest of the batch."""
    width = max(len(row["input_ids"]) for row in batch)
    pad = {"input_ids": 2, "labels": -100}
    found = {
        name: torch.tensor([row[name] + [fill] * (width - len(row[name])) for row in batch])
        for name, fill in pad.items()
    }
    found["attention_mask"] = torch.tensor(
        [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in batch]
    )
    return found


def arguments(out: Path, steps: int, batch: int, evaluations: int) -> dict[str, Any]:
    """What the quickstart trains with, evaluated (and saved) as often as `tunesmith run` did."""
    every = -(-steps // max(evaluations, 1))
    return {
        "output_dir": str(out / "trainer"),
        "per_device_train_batch_size": batch,
        "max_steps": steps,
        "learning_rate": 5e-4,
        "lr_scheduler_type": "cosine",
        "warmup_steps": steps // 10,
        "use_cpu": not torch.cuda.is_available(),
        "optim": "adamw_torch_fused",
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 2,
        "eval_strategy": "steps",
        "eval_steps": every,
        "logging_steps": 1,
        "report_to": "none",
    }


class StepClock(TrainerCallback):
    """Counts what `tunesmith run` counts: the seconds of steps, without those of evaluations and saves."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._mark = time.perf_counter()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._mark = time.perf_counter()

    on_evaluate = on_save = on_train_begin

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = time.perf_counter()
        self.seconds, self._mark = self.seconds + now - self._mark, now

    def report(self, train: list[Row], steps: int, batch: int) -> None:
        """Print the tokens per second, without padding; a row comes once in each epoch."""
        epochs = steps / -(-len(train) // batch)
        tokens = sum(len(row["input_ids"]) for row in train) * epochs
        print(f"tokens per second: {tokens / self.seconds:.1f}")
