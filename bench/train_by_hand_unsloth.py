"""The same with Unsloth: its loader and TRL's SFTTrainer, nothing of Tunesmith.

usage: train_by_hand_unsloth.py MODEL ROWS.JSONL OUT STEPS BATCH TRAIN_ROWS HELD_OUT_ROWS EVALUATIONS
"""

import os
import shutil
import sys
from pathlib import Path

if shutil.which("nvidia-smi") is None:
    os.environ["UNSLOTH_FORCE_CPU"] = "1"
os.environ["UNSLOTH_DISABLE_STATISTICS"] = os.environ["HF_HUB_OFFLINE"] = "1"
# The first import of all: it patches the others.
from unsloth import FastLanguageModel  # isort: skip

from datasets import Dataset
from street_reports import DTYPE, TARGETS, StepClock, arguments, collate, encoded_rows
from trl import SFTConfig, SFTTrainer

model_dir, rows_file, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
steps, batch, train_rows, held_out_rows, evaluations = map(int, sys.argv[4:])

train, held_out = encoded_rows(model_dir, rows_file, train_rows, held_out_rows)
model, tokenizer = FastLanguageModel.from_pretrained(
    model_dir, max_seq_length=128, dtype=DTYPE, load_in_4bit=False, use_exact_model_name=True
)
model = FastLanguageModel.get_peft_model(
    model,
    r=16,
    lora_alpha=16,
    lora_dropout=0,
    target_modules=TARGETS,
    use_gradient_checkpointing=False,
    random_state=42,
)
clock = StepClock()
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        **arguments(out, steps, batch, evaluations), max_length=128, dataset_kwargs={"skip_prepare_dataset": True}
    ),
    train_dataset=Dataset.from_list(train),
    eval_dataset=Dataset.from_list(held_out),
    data_collator=collate,
    processing_class=tokenizer,
    callbacks=[clock],
)
trainer.train()
clock.report(train, steps, batch)
model.save_pretrained(out / "adapter")
model.merge_and_unload(safe_merge=True).save_pretrained(out / "merged")
