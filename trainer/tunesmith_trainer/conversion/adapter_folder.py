"""From a LoRA adapter as it was trained to a folder that llama.cpp's converter makes a right adapter GGUF of.

llama.cpp knows one alpha for all layers and scales by alpha / rank. Where an adapter scales otherwise (rank-stabilised,
another alpha for some layers, an alpha that is no integer), the difference is multiplied into B (P50).
"""

import json
from pathlib import Path

from tunesmith_trainer.conversion.lora import (
    CONFIG,
    WEIGHTS,
    llama_cpp_alpha,
    llama_cpp_factor,
    lora_modules,
    peculiarities,
)


def why_not(adapter: Path) -> str | None:
    """Why this adapter cannot be a GGUF, or None if it can."""
    from safetensors import safe_open

    with safe_open(adapter / WEIGHTS, framework="np") as file:
        found = peculiarities(json.loads((adapter / CONFIG).read_text()), file.keys())
    return "; ".join(found) or None


def adapter_folder(adapter: Path, into: Path, name: str) -> Path:
    """A folder called `name` in `into` with the adapter's weights scaled for llama.cpp and nothing of this machine.

    PEFT's model card names the path that the base was loaded from, so it stays behind (P37, P74).
    """
    from safetensors.torch import load_file, save_file

    config = json.loads((adapter / CONFIG).read_text())
    tensors = load_file(adapter / WEIGHTS)
    alpha = llama_cpp_alpha(config)
    ranks = {key: tensor.shape[0 if ".lora_A." in key else 1] for key, tensor in tensors.items()}
    for module in lora_modules(config, ranks):
        if (factor := llama_cpp_factor(module, alpha)) != 1:
            tensors[module.b] = tensors[module.b].float() * factor
    folder = into / name
    folder.mkdir(parents=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "lora_alpha": alpha, "r": config.get("r")}))
    return folder
