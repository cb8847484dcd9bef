"""What the proof of a merge accepts, on files of three small matrices."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.conversion.lora import CONFIG, PREFIX, WEIGHTS
from tunesmith_trainer.conversion.merge import check_merge

torch = pytest.importorskip("torch", reason="needs the trainer's packages")

FUSED = "model.layers.0.self_attn.qkv_proj"
OUT = "model.layers.0.self_attn.o_proj"
NORM = "model.norm"
ALPHA, RANK = 8, 4


@pytest.fixture
def weights() -> dict[str, Any]:
    """A base like Phi-3, whose queries, keys and values are one matrix."""
    random = torch.Generator().manual_seed(0)
    shapes = {FUSED: (48, 16), OUT: (16, 16), NORM: (16,)}
    return {f"{name}.weight": torch.randn(shape, generator=random).bfloat16() for name, shape in shapes.items()}


def saved(folder: Path, tensors: dict[str, Any]) -> Path:
    from safetensors.torch import save_file

    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    return folder


def an_adapter(folder: Path, layers: dict[str, int]) -> Path:
    """LoRA weights for layers of so many rows and 16 columns."""
    from safetensors.torch import save_file

    folder.mkdir()
    random = torch.Generator().manual_seed(1)
    tensors = {}
    for name, rows in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = torch.randn((RANK, 16), generator=random)
        tensors[f"{PREFIX}{name}.lora_B.weight"] = torch.randn((rows, RANK), generator=random)
    save_file(tensors, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "lora_alpha": ALPHA, "r": RANK}))
    return folder


def with_adapter(weights: dict[str, Any], adapter: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    deltas = load_file(adapter / WEIGHTS)
    whole = dict(weights)
    for name in (FUSED, OUT):
        delta = deltas[f"{PREFIX}{name}.lora_B.weight"] @ deltas[f"{PREFIX}{name}.lora_A.weight"] * (ALPHA / RANK)
        whole[f"{name}.weight"] = weights[f"{name}.weight"] + delta.bfloat16()
    return whole


def test_a_right_merge_is_proven(weights: dict[str, Any], tmp_path: Path) -> None:
    """The control: base plus adapter, rounded as PEFT rounds."""
    adapter = an_adapter(tmp_path / "adapter", {FUSED: 48, OUT: 16})
    result = saved(tmp_path / "merged", with_adapter(weights, adapter))

    found = check_merge(saved(tmp_path / "base", weights), adapter, result)

    assert (found.targeted, found.changed, found.tensors) == (2, 2, 3)


def test_an_adapter_for_layers_of_other_names_is_refused(weights: dict[str, Any], tmp_path: Path) -> None:
    """P17, P36: one that was trained on split matrices would be merged in part, or not at all, without a word."""
    right = an_adapter(tmp_path / "right", {FUSED: 48, OUT: 16})
    split = an_adapter(tmp_path / "split", {f"{FUSED.removesuffix('qkv_proj')}q_proj": 16, OUT: 16})
    result = saved(tmp_path / "merged", with_adapter(weights, right))

    with pytest.raises(StageFailure, match=r"q_proj\.weight, which the base has not") as failure:
        check_merge(saved(tmp_path / "base", weights), split, result)

    assert failure.value.failure is FailureClass.MERGE_INVALID


def test_a_merge_into_weights_that_were_in_four_bits_is_refused(weights: dict[str, Any], tmp_path: Path) -> None:
    """P31, P32: what QLoRA learnt is added to the original, not to what is left of it after four bits."""
    adapter = an_adapter(tmp_path / "adapter", {FUSED: 48, OUT: 16})
    coarse = {name: tensor if name.startswith(NORM) else rounded(tensor) for name, tensor in weights.items()}
    result = saved(tmp_path / "merged", with_adapter(coarse, adapter))

    with pytest.raises(StageFailure, match="is not base plus adapter"):
        check_merge(saved(tmp_path / "base", weights), adapter, result)


def rounded(tensor: Any) -> Any:
    """To 16 levels, as four bits have."""
    step = tensor.float().abs().max() / 7.5
    return ((tensor.float() / step).round() * step).bfloat16()
