"""What a careful user writes to train an adapter: Transformers and PEFT, nothing of Tunesmith.

usage: train_by_hand.py MODEL ROWS.JSONL OUT STEPS
"""

import json
import sys
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments, set_seed

model_dir, rows_file, out, steps = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
BATCH, HELD_OUT = 8, 98

tokenizer = PreTrainedTokenizerFast.from_pretrained(model_dir)
rows = [json.loads(line)["messages"] for line in Path(rows_file).read_text().splitlines()]


def encoded(messages: list[dict[str, str]]) -> dict[str, list[int]]:
    """Ids of a conversation, with labels only on the answer."""
    prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(messages, tokenize=False).rstrip("\n")
    ids = tokenizer(whole, add_special_tokens=False).input_ids
    start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    return {"input_ids": ids, "labels": [-100] * start + ids[start:]}


def collate(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
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


data = [encoded(messages) for messages in rows]
train, held_out = data[:-HELD_OUT], data[-HELD_OUT:]
set_seed(42)
model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16)
targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=targets, task_type="CAUSAL_LM"))
model.config.use_cache = False
arguments = TrainingArguments(
    output_dir=str(out / "trainer"),
    per_device_train_batch_size=BATCH,
    max_steps=steps,
    learning_rate=1e-3,
    lr_scheduler_type="cosine",
    warmup_steps=steps // 10,
    use_cpu=not torch.cuda.is_available(),
    optim="adamw_torch_fused",
    remove_unused_columns=False,
    dataloader_pin_memory=False,
    save_strategy="steps",
    save_steps=max(steps // 10, 1),
    save_total_limit=2,
    eval_strategy="steps",
    eval_steps=max(steps // 10, 1),
    logging_steps=1,
    report_to="none",
)
trainer = Trainer(model=model, args=arguments, train_dataset=train, eval_dataset=held_out, data_collator=collate)
began = time.monotonic()
trainer.train()
tokens = sum(len(row["input_ids"]) for row in train) / len(train) * BATCH * steps
print(f"tokens per second: {tokens / (time.monotonic() - began):.1f}")
model.save_pretrained(out / "adapter")
merged = model.merge_and_unload(safe_merge=True)
merged.save_pretrained(out / "merged")
