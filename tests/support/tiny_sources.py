"""A model that resolve accepts and nothing can load, and rows: for what looks at sources and reads no weights."""

import json
from pathlib import Path

CONFIG = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 32}
MODEL = {"config.json": json.dumps(CONFIG), "model.safetensors": "x", "tokenizer.json": "{}"}
ROWS = "".join(json.dumps({"prompt": f"What is {n} squared?", "completion": f"{n * n}."}) + "\n" for n in range(60))


def write_sources(folder: Path) -> Path:
    """``model/`` and ``rows.jsonl`` with 60 rows in `folder`, which is returned."""
    (folder / "model").mkdir()
    for name, text in MODEL.items():
        (folder / "model" / name).write_text(text)
    (folder / "rows.jsonl").write_text(ROWS)
    return folder
