"""From an adapter's configuration and tensor names to what it adds to which weight: W + scale * B @ A.

Written from PEFT's documented format, not with PEFT, so that a merge made by PEFT can be proven against it.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api.failures import FailureClass, StageFailure

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# What PEFT puts in front of the base's own module names (PeftModel wraps LoraModel wraps the base).
PREFIX = "base_model.model."
# Options of PEFT's LoraConfig that make the sum another one than W + scale * B @ A.
OTHER_ARITHMETIC = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "fan_in_fan_out",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "target_parameters",
)
# Ways of LoraConfig.init_lora_weights that take the adapter's first values out of the base's weights.
BASE_CHANGING_STARTS = ("pissa", "olora", "corda", "loftq")


@dataclass(frozen=True, slots=True)
class LoraModule:
    """One adapted linear layer: the base's weight `tensor`, the adapter's `a` and `b`, and the scale of B @ A."""

    tensor: str
    a: str
    b: str
    rank: int
    scale: float


def peculiarities(config: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """In what the adapter is more than W + scale * B @ A of linear layers; empty for plain LoRA."""
    found = []
    if config.get("peft_type", "LORA") != "LORA":
        found.append(f"it is {config['peft_type']}, not LoRA")
    found += [f"it uses {option}" for option in OTHER_ARITHMETIC if config.get(option)]
    if str(config.get("init_lora_weights", "")).startswith(BASE_CHANGING_STARTS):
        found.append(f"its base was changed by {config['init_lora_weights']}")
    others = sorted(name for name in names if not name.endswith((".lora_A.weight", ".lora_B.weight")))
    if others:
        found.append(f"it holds {len(others)} other tensors, such as {others[0]}")
    return found


def lora_modules(config: Mapping[str, Any], ranks: Mapping[str, int]) -> tuple[LoraModule, ...]:
    """The adapted layers; `ranks` gives for each tensor name of the adapter the length of its rank dimension.

    The rank that counts is the one that the tensors have; PEFT's ``rank_pattern`` only says how it came about.
    Raises MergeInvalid where an A has no B or their ranks differ.
    """
    modules = []
    for a in sorted(name for name in ranks if name.endswith(".lora_A.weight")):
        module = a.removesuffix(".lora_A.weight")
        b = module + ".lora_B.weight"
        if ranks.get(b) != ranks[a]:
            raise StageFailure(FailureClass.MERGE_INVALID, f"the adapter's {a} has no {b} of the same rank")
        name = module.removeprefix(PREFIX)
        modules.append(LoraModule(name + ".weight", a, b, ranks[a], scale_of(config, name, ranks[a])))
    return tuple(modules)


def scale_of(config: Mapping[str, Any], module: str, rank: int) -> float:
    """alpha / rank, for rank-stabilised LoRA alpha / sqrt(rank) (arXiv 2312.03732), with PEFT's ``alpha_pattern``."""
    alpha = float(config["lora_alpha"])
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        # PEFT matches a pattern against the end of the name, from the start or from a dot (get_pattern_key).
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            alpha = float(value)
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def llama_cpp_factor(module: LoraModule, alpha: int) -> float:
    """What B must be multiplied by so that llama.cpp, which scales every layer by alpha / rank, is right (P50)."""
    return module.scale / (alpha / module.rank)


def llama_cpp_alpha(config: Mapping[str, Any]) -> int:
    """The one alpha of an adapter GGUF: an integer, since Ollama reads no other (P50)."""
    return max(1, round(float(config["lora_alpha"])))
