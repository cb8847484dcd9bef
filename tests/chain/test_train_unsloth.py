"""Training for real with the engine Unsloth, in processes of their own, since it patches the whole process."""

import hashlib
import importlib.util
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.datasets import capitals, write_dataset
from support.models import cut, smollm2

pytestmark = pytest.mark.skipif(importlib.util.find_spec("unsloth") is None, reason="needs the trainer's packages")

TESTS = Path(__file__).parents[1]
LORA = {"rank": 8, "alpha": 16, "dropout": 0.1, "targetModules": ["q_proj", "down_proj"]}
RS_LORA = {**LORA, "dropout": 0.0, "rsLora": True}
# A learning rate that ruins the model in the middle; an improvement that no evaluation makes.
RUINOUS = {"eval_every": 1, "keep_best": True, "scheduler": "Linear", "learning_rate": 0.2, "warmup_ratio": 0.5}
IMPATIENT = {"eval_every": 2, "early_stopping": {"patience": 2, "minImprovement": 9.9}}
EIGHT_STEPS: dict[str, Any] = {"engine": "Unsloth", "max_steps": 8, "lora": LORA}


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What is trained: by name, a call of `support.train_child`."""
    folder, whole = tmp_path_factory.mktemp("unsloth"), smollm2()
    common = {
        "base": str(cut(whole, 2, folder / "two-layers")),
        "dataset": str(write_dataset(folder / "data", whole, {"train": capitals(24), "eval": capitals(6, 1000)})),
        "execution": {"batch_size": 2, "save_every": 3},
    }
    for name in ("checkpoints", "saved"):
        (folder / name).mkdir()
    interrupted = {"settings": EIGHT_STEPS, "checkpoints": str(folder / "checkpoints")}
    shapes: dict[str, dict[str, Any]] = {
        "killed": {**interrupted, "killAt": 6},
        "resumed": interrupted,
        "uninterrupted": {"settings": EIGHT_STEPS},
        "QLoRA": {"settings": {**EIGHT_STEPS, "method": "QLoRA", "max_steps": 4}},
        "QLoRA evaluated once": {"settings": {**EIGHT_STEPS, "method": "QLoRA", "max_steps": 4, "eval_every": 4}},
        "Full": {"settings": {**EIGHT_STEPS, "method": "Full", "lora": None, "max_steps": 2, "learning_rate": 1e-4}},
        "packed": {"settings": {**EIGHT_STEPS, "lora": RS_LORA, "max_steps": 3, "packing": True}},
        "padded": {"settings": {**EIGHT_STEPS, "lora": RS_LORA, "max_steps": 3}},
        "checkpointed": {
            "settings": {**EIGHT_STEPS, "lora": RS_LORA, "max_steps": 3},
            "execution": {"batch_size": 2, "gradient_checkpointing": True},
        },
        "going on": {
            "settings": {**EIGHT_STEPS, "lora": RS_LORA, "max_steps": 1, "start_adapter": "sha256:0"},
            "adapter": str(folder / "padded" / "adapter"),
        },
        "interrupted": {**interrupted, "checkpoints": str(folder / "saved"), "interruptAt": 4},
        "gone on": {**interrupted, "checkpoints": str(folder / "saved")},
        "best": {"settings": {**EIGHT_STEPS, "max_steps": 6, **RUINOUS}},
        "early": {"settings": {**EIGHT_STEPS, "max_steps": 12, "scheduler": "Constant", **IMPATIENT}},
        "whole model": {"base": str(whole), "settings": {**EIGHT_STEPS, "max_steps": 1, "effective_batch_size": 4}},
        "Transformers": {
            "base": str(whole),
            "settings": {**EIGHT_STEPS, "engine": "Transformers", "max_steps": 1, "effective_batch_size": 4},
        },
    }
    return {name: {**common, "scratch": str(folder / name), **shape} for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def trained(calls: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What came of them; "killed" comes first and leaves only its checkpoints."""
    assert child([calls["killed"]], tmp_path_factory.mktemp("first")).returncode == -signal.SIGKILL
    # Transformers last: Unsloth has patched its process by then, which must make no difference to the loss.
    names = [name for name in calls if name != "killed"]
    folder = tmp_path_factory.mktemp("second")
    assert child([calls[name] for name in names], folder).returncode == 0
    return dict(zip(names, json.loads((folder / "results.json").read_text()), strict=True))


def child(chosen: list[dict[str, Any]], folder: Path) -> subprocess.CompletedProcess[bytes]:
    (folder / "calls.json").write_text(json.dumps(chosen))
    files = (folder / "calls.json", folder / "results.json")
    return subprocess.run([sys.executable, "-m", "support.train_child", *files], cwd=TESTS, check=False)


def digest(result: dict[str, Any], name: str = "adapter_model.safetensors") -> str:
    return hashlib.sha256((Path(result["folder"]) / name).read_bytes()).hexdigest()


def losses(result: dict[str, Any]) -> list[float]:
    lines = (Path(result["folder"]) / "log.jsonl").read_text().splitlines()
    return [event["loss"] for event in map(json.loads, lines) if "loss" in event]


def test_a_killed_training_ends_as_if_it_had_not_been_killed(trained: dict[str, dict[str, Any]]):
    """SIGKILL after step 6: the same weights, bit by bit, and the whole log (P23)."""
    assert trained["resumed"]["figures"]["resumedFrom"] == 6
    assert losses(trained["uninterrupted"]) == losses(trained["resumed"])
    assert digest(trained["uninterrupted"]) == digest(trained["resumed"])


def test_an_interruption_costs_no_step(trained: dict[str, dict[str, Any]]):
    """P24: what is stored is at least the step at the signal less one; then it goes on, and ends the same."""
    assert trained["interrupted"]["failure"] == "Interrupted"
    assert re.search(r"saved at step [45] of 8", trained["interrupted"]["message"])
    assert trained["gone on"]["figures"]["resumedFrom"] >= 4 - 1
    assert digest(trained["gone on"]) == digest(trained["uninterrupted"])


def test_keep_best_delivers_the_weights_of_the_lowest_loss(trained: dict[str, dict[str, Any]]):
    """They are measured again from their files."""
    figures = trained["best"]["figures"]
    lines = (Path(trained["best"]["folder"]) / "log.jsonl").read_text().splitlines()
    curve = {event["step"]: event["evalLoss"] for event in map(json.loads, lines) if "evalLoss" in event}

    assert figures["deliveredStep"] == figures["bestStep"] == min(curve, key=lambda step: curve[step]) < 6
    assert figures["evalLoss"] == min(curve.values())


def test_early_stopping_ends_after_its_patience(trained: dict[str, dict[str, Any]]):
    """Two evaluations that gain less than asked for, and training is over and done."""
    assert (trained["early"]["figures"]["steps"], trained["early"]["figures"]["totalSteps"]) == (6, 12)


def test_both_engines_see_the_same_labels(trained: dict[str, dict[str, Any]]):
    """The first loss on the real model is one figure, whoever computes it (the other test proves it by hand).

    P78: and so is the loss on held-out rows, for which TRL has a kernel of its own that a CPU may lack.
    """
    ours, theirs = (trained[name]["figures"] for name in ("whole model", "Transformers"))

    assert ours["firstLoss"] == pytest.approx(theirs["firstLoss"], rel=0.005)
    assert ours["evalLoss"] == pytest.approx(theirs["evalLoss"], rel=0.005)


def test_an_evaluation_does_not_break_qlora(trained: dict[str, dict[str, Any]]):
    """P75 with Unsloth; and the base really is in 4 bits, or the load would have failed (P15)."""
    assert digest(trained["QLoRA"]) == digest(trained["QLoRA evaluated once"])
    assert trained["QLoRA"]["figures"]["method"] == "QLoRA"


def test_full_fine_tuning_writes_a_16_bit_model(trained: dict[str, dict[str, Any]]):
    """P34: bf16 weights out of fp32 ones."""
    from safetensors import safe_open

    with safe_open(Path(trained["Full"]["folder"]) / "model.safetensors", "pt") as weights:
        assert weights.get_slice("model.norm.weight").get_dtype() == "BF16"
    assert trained["Full"]["figures"]["dtype"] == "float32"


def test_packed_rows_do_not_see_each_other(trained: dict[str, dict[str, Any]]):
    """P79: on a CPU packing is exact with Unsloth too."""
    assert trained["packed"]["figures"]["packing"] is True
    assert losses(trained["packed"]) == pytest.approx(losses(trained["padded"]), rel=0.01)


def test_layers_that_are_computed_twice_give_the_same_loss(trained: dict[str, dict[str, Any]]):
    """Unsloth's own gradient checkpointing saves memory and nothing else."""
    assert trained["checkpointed"]["figures"]["gradientCheckpointing"] is True
    assert losses(trained["checkpointed"]) == pytest.approx(losses(trained["padded"]), rel=0.001)


def test_training_goes_on_from_an_adapter(trained: dict[str, dict[str, Any]]):
    """The first loss is lower than where the adapter's own training began."""
    assert trained["going on"]["figures"]["firstLoss"] < trained["padded"]["figures"]["firstLoss"]


def test_the_adapter_is_scaled_as_asked_for(trained: dict[str, dict[str, Any]]):
    """rsLora reaches Unsloth, and what is handed over says so."""
    folders = [Path(trained[name]["folder"]) for name in ("packed", "resumed")]

    scaled = [json.loads((folder / "adapter_config.json").read_text())["use_rslora"] for folder in folders]
    assert scaled == [True, False]


def test_the_adapter_names_no_class_of_unsloth(trained: dict[str, dict[str, Any]]):
    """P37: what is handed over can be loaded without Unsloth."""
    config = json.loads((Path(trained["resumed"]["folder"]) / "adapter_config.json").read_text())

    assert config["auto_mapping"] is None
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2"
