"""The adapter's shape: checked against the model, or taken from an adapter that training goes on from."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.resolve.uri import portable
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.settings import LoraSettings

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
# What makes an adapter more than plain LoRA: neither merged, nor converted to GGUF, nor gone on from (P50).
_NOT_PLAIN = (
    "use_dora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "trainable_token_indices",
    "layers_pattern",
)


@dataclass(frozen=True, slots=True)
class AdapterShape:
    """Rank, scale, dropout and the ends of the names of the layers that get an adapter."""

    rank: int
    alpha: int
    dropout: float
    targets: tuple[str, ...]
    rs_lora: bool


def shape_from_settings(lora: LoraSettings) -> AdapterShape:
    """The shape that the job asks for."""
    return AdapterShape(lora.rank, lora.alpha, lora.dropout, tuple(sorted(set(lora.target_modules))), lora.rs_lora)


def shape_from_adapter(folder: Path, dropout: float) -> AdapterShape:
    """The shape of the adapter in `folder`, which training keeps; raises ModelInvalid unless it is plain LoRA."""
    try:
        config = json.loads((folder / _CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise StageFailure(FailureClass.MODEL_INVALID, f"the adapter's {_CONFIG} cannot be read: {error}") from error
    if not (folder / _WEIGHTS).is_file():
        raise StageFailure(FailureClass.MODEL_INVALID, f"the adapter has no {_WEIGHTS}")
    unusual = [name for name in _NOT_PLAIN if config.get(name)]
    targets = config.get("target_modules")
    if config.get("peft_type") != "LORA" or unusual or not isinstance(targets, list):
        what = ", ".join(unusual) or f"type {config.get('peft_type')}, targets {targets!r}"
        message = f"training can go on from a plain LoRA adapter only, and this one has {what}"
        raise StageFailure(FailureClass.MODEL_INVALID, message)
    alpha = int(config["lora_alpha"])
    return AdapterShape(config["r"], alpha, dropout, tuple(sorted(targets)), bool(config.get("use_rslora")))


def check_targets(targets: Iterable[str], linear_names: Iterable[str], tied: bool) -> None:
    """Every target must name at least one linear layer, or part of the model stays untrained without a word (P81).

    An adapter on a tied output layer (P33) or on the embeddings (P50) would be lost in the merge or refused by the
    converter. Raises SpecInvalid.
    """
    names = list(linear_names)
    wanted = list(targets)
    missing = [target for target in wanted if not any(_ends_with(name, target) for name in names)]
    if missing:
        known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in names}))
        message = f"training.lora.targetModules: no layer of this model is called {', '.join(missing)}; it has {known}"
        hint = "Set training.lora.targetModules to those of them that shall get an adapter."
        raise StageFailure(FailureClass.SPEC_INVALID, message, hint)
    if tied and any(_ends_with("lm_head", target) for target in wanted):
        message = "training.lora.targetModules: lm_head shares its weights with the embeddings in this model"
        raise StageFailure(FailureClass.SPEC_INVALID, message, "Remove lm_head from targetModules.")


def _ends_with(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def linear_names(model: Any) -> list[str]:
    """The names of all layers that can get an adapter: linear ones, quantized ones included."""
    import torch

    return [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]


def load_start_weights(model: Any, folder: Path) -> None:
    """Put the weights of the adapter in `folder` in the place of the fresh ones; raises ModelInvalid if any is left."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    outcome = set_peft_model_state_dict(model, load_file(folder / _WEIGHTS))
    missing = [key for key in outcome.missing_keys if "lora_" in key]
    if missing or outcome.unexpected_keys:
        wrong = (missing or outcome.unexpected_keys)[0]
        raise StageFailure(FailureClass.MODEL_INVALID, f"the adapter is not one of this base model: {wrong}")


def portable_config(config: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """adapter_config.json as it leaves this machine: the base by its URI and revision, no path (P37), sorted targets.

    `base` is what the base artifact's manifest says of it ("uri", "revision", "name").
    """
    uri = str(base.get("uri") or "")
    uri = uri if portable(uri) else str(base.get("name") or "")
    return {
        **config,
        # On the hub the reference is the repository's name; every other source is named by its URI.
        "base_model_name_or_path": uri.removeprefix("hf://"),
        "revision": base.get("revision"),
        "target_modules": sorted(config["target_modules"]),
        "inference_mode": True,
        # Unsloth writes the classes of its own patched model here, which nobody else has.
        "auto_mapping": None,
    }
