"""The adapter's shape, its checks and its portable description."""

import json
import re
from pathlib import Path

import pytest

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.engines.adapter import AdapterShape, check_targets, portable_config, shape_from_adapter

LLAMA = [f"model.layers.{layer}.self_attn.{name}" for layer in (0, 1) for name in ("q_proj", "k_proj", "o_proj")]
PHI3 = ["model.layers.0.self_attn.qkv_proj", "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.gate_up_proj"]


def test_every_target_has_to_be_a_layer():
    """P81: Llama's names on Phi-3 would leave its attention untrained without an error, since o_proj matches."""
    with pytest.raises(StageFailure, match=re.escape("q_proj, k_proj; it has gate_up_proj, o_proj, qkv_proj")) as found:
        check_targets(("q_proj", "k_proj", "o_proj"), PHI3, tied=False)

    assert FailureClass.SPEC_INVALID is found.value.failure
    check_targets(("q_proj", "k_proj", "o_proj"), LLAMA, tied=True)


def test_a_target_is_a_whole_name():
    """`proj` is the end of many names and the name of no layer."""
    with pytest.raises(StageFailure, match="no layer of this model is called proj"):
        check_targets(("proj",), LLAMA, tied=True)


def test_no_adapter_on_a_tied_output_layer():
    """P33: it would be lost in the merge."""
    with pytest.raises(StageFailure, match="shares its weights"):
        check_targets(("lm_head",), [*LLAMA, "lm_head"], tied=True)
    check_targets(("lm_head",), [*LLAMA, "lm_head"], tied=False)


def adapter_folder(folder: Path, **changes: object) -> Path:
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["v_proj", "q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def test_training_goes_on_in_the_adapters_own_shape(tmp_path: Path):
    """Rank, scale and layers are those of the adapter, whatever the job asks for."""
    expected = AdapterShape(rank=8, alpha=16, dropout=0.1, targets=("q_proj", "v_proj"), rs_lora=True)

    assert expected == shape_from_adapter(adapter_folder(tmp_path, use_rslora=True), dropout=0.1)


@pytest.mark.parametrize(
    "changes",
    [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"peft_type": "IA3"}, {"target_modules": "all-linear"}],
    ids=["DoRA", "trained embeddings", "another method", "targets by a pattern"],
)
def test_only_plain_lora_can_be_gone_on_from(tmp_path: Path, changes: dict[str, object]):
    """P50: anything more can be neither merged nor converted later."""
    with pytest.raises(StageFailure, match="plain LoRA") as found:
        shape_from_adapter(adapter_folder(tmp_path, **changes), dropout=0.0)

    assert FailureClass.MODEL_INVALID is found.value.failure


def test_an_adapter_without_weights_is_none(tmp_path: Path):
    """A folder with a description alone is refused before anything is loaded."""
    (adapter_folder(tmp_path) / "adapter_model.safetensors").unlink()

    with pytest.raises(StageFailure, match=r"no adapter_model\.safetensors"):
        shape_from_adapter(tmp_path, dropout=0.0)


def test_the_description_names_the_base_and_no_path():
    """P37: a hub's name and revision in the place of this machine's folder."""
    written = {"base_model_name_or_path": "/scratch/base", "target_modules": ["v", "a"], "auto_mapping": {"x": 1}}
    config = portable_config(written, {"uri": "hf://org/name", "revision": "abc"})

    assert config["base_model_name_or_path"] == "org/name"
    assert config["revision"] == "abc"
    assert config["target_modules"] == ["a", "v"]
    assert "/scratch" not in json.dumps(config)
    assert portable_config(written, {"uri": "s3://models/base"})["base_model_name_or_path"] == "s3://models/base"


def test_the_description_names_no_folder_of_this_machine():
    """P37: a base that was a folder is known by its name; who published the adapter had it elsewhere."""
    written = {"base_model_name_or_path": "/scratch/base", "target_modules": ["v"]}

    assert portable_config(written, {"uri": "file:///home/me/m", "name": "m"})["base_model_name_or_path"] == "m"
