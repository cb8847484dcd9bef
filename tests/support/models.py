"""Small real models for tests: SmolLM2 whole, or cut to its first layers."""

import importlib.util
import json
import shutil
from pathlib import Path

_EXAMPLE = Path(__file__).parents[2] / "examples" / "smollm2.py"


def smollm2() -> Path:
    """The folder of the real SmolLM2-135M-Instruct in the user's cache, made on the first call."""
    spec = importlib.util.spec_from_file_location("smollm2_example", _EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder: Path = module.ensure_smollm2()
    return folder


def cut(model: Path, layers: int, target: Path) -> Path:
    """Write the first `layers` layers of the Llama-like model in `model` into `target`; all else stays as it is."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    target.mkdir(parents=True, exist_ok=True)
    for path in model.iterdir():
        if path.suffix != ".safetensors":
            shutil.copyfile(path, target / path.name)
    config = json.loads((model / "config.json").read_text())
    config["num_hidden_layers"] = layers
    (target / "config.json").write_text(json.dumps(config, indent=2))
    with safe_open(model / "model.safetensors", "pt") as weights:
        kept = {name: weights.get_tensor(name) for name in weights.keys() if _layer(name) < layers}  # noqa: SIM118
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
    return target


def _layer(name: str) -> int:
    parts = name.split(".")
    return int(parts[parts.index("layers") + 1]) if "layers" in parts else -1
