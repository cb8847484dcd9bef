"""Trained weights become files: an adapter, or a full model in a 16-bit format; nothing in them names a path."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith_trainer.engines.adapter import portable_config

_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_ADAPTER_CONFIG = "adapter_config.json"
_CONFIG = "config.json"
# 16-bit formats that a base may have; anything else is stored as bf16. fp16 bases get bf16 too: full fine-tuning may
# leave fp16's range, never bf16's (P34).
_STORED = "bfloat16"


def save_weights(model: Any, folder: Path) -> None:
    """What `restore_weights` reads: the adapter's tensors, or the full model's as they are (fp32)."""
    folder.mkdir(parents=True, exist_ok=True)
    if _is_adapter(model):
        _save_adapter_tensors(model, folder)
    else:
        model.save_pretrained(folder)


def restore_weights(model: Any, folder: Path) -> None:
    """Put the weights that `save_weights` wrote back into `model`."""
    from safetensors.torch import load_file

    if _is_adapter(model):
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(model, load_file(folder / _ADAPTER_WEIGHTS))
        return
    for path in sorted(folder.glob("*.safetensors")):
        model.load_state_dict(load_file(path), strict=False)
    model.tie_weights()


def write_adapter(model: Any, folder: Path, base: Mapping[str, Any]) -> None:
    """adapter_model.safetensors and adapter_config.json, which names `base` by its URI and revision."""
    folder.mkdir(parents=True, exist_ok=True)
    _save_adapter_tensors(model, folder)
    model.peft_config["default"].save_pretrained(folder)
    config = json.loads((folder / _ADAPTER_CONFIG).read_bytes())
    _write_json(folder / _ADAPTER_CONFIG, portable_config(config, base))


def write_full(model: Any, folder: Path, base: Path) -> None:
    """model*.safetensors in bf16 and the base's own config.json; tokenizer files stay the base's (P35)."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    model.to(getattr(torch, _STORED)).save_pretrained(folder)
    for path in folder.iterdir():
        if path.suffix != ".safetensors" and path.name != "model.safetensors.index.json":
            path.unlink()
    config = json.loads((base / _CONFIG).read_bytes())
    # Older configs say `torch_dtype`, newer ones `dtype`: keep the name that is there.
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = _STORED
    _write_json(folder / _CONFIG, config)


def _save_adapter_tensors(model: Any, folder: Path) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    # No embeddings: to find out whether to store them PEFT would ask the hub about the base.
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, folder / _ADAPTER_WEIGHTS, metadata={"format": "pt"})


def _is_adapter(model: Any) -> bool:
    return hasattr(model, "peft_config")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def replace_folder(source: Path, target: Path) -> None:
    """Put the folder `source` in the place of `target`."""
    shutil.rmtree(target, ignore_errors=True)
    source.rename(target)
