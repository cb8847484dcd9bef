"""What a careful user writes to train an adapter: Transformers and PEFT, nothing of Tunesmith.

usage: train_by_hand.py MODEL ROWS.JSONL OUT STEPS BATCH TRAIN_ROWS HELD_OUT_ROWS EVALUATIONS
"""

import sys
from pathlib import Path

from peft import LoraConfig, get_peft_model
from street_reports import DTYPE, TARGETS, StepClock, arguments, collate, encoded_rows
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments, set_seed

model_dir, rows_file, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
steps, batch, train_rows, held_out_rows, evaluations = map(int, sys.argv[4:])

train, held_out = encoded_rows(model_dir, rows_file, train_rows, held_out_rows)
set_seed(42)
model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=DTYPE)
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=16, target_modules=TARGETS, task_type="CAUSAL_LM"))
model.config.use_cache = False
clock = StepClock()
trainer = Trainer(
    model=model,
    args=TrainingArguments(**arguments(out, steps, batch, evaluations)),
    train_dataset=train,
    eval_dataset=held_out,
    data_collator=collate,
    callbacks=[clock],
)
trainer.train()
clock.report(train, steps, batch)
model.save_pretrained(out / "adapter")
model.merge_and_unload(safe_merge=True).save_pretrained(out / "merged")
