"""Training for real: SmolLM2, whole or cut to two layers, with the engine Transformers."""

import hashlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.datasets import capitals, write_dataset
from support.models import cut, smollm2
from support.training import FolderCheckpoints, InterruptAt, Posts, train_settings, train_work
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.settings import LoraSettings, TrainSettings
from tunesmith_api.stages import Kind
from tunesmith_trainer.engines.precision import Device
from tunesmith_trainer.engines.quantized import probe_nf4
from tunesmith_trainer.train import run

pytest.importorskip("torch", reason="needs the trainer's packages")

TESTS = Path(__file__).parents[1]
# Real dropout and accumulation, so that a lost random state or a shifted batch shows.
EIGHT_STEPS: dict[str, Any] = {
    "max_steps": 8,
    "lora": LoraSettings(rank=8, alpha=16, dropout=0.1, target_modules=("q_proj", "down_proj")),
}
EXECUTION: dict[str, Any] = {"batch_size": 2, "save_every": 3}

Train = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="module")
def whole() -> Path:
    """The real model."""
    return smollm2()


@pytest.fixture(scope="module")
def small(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its first two layers: seconds instead of minutes."""
    return cut(whole, 2, tmp_path_factory.mktemp("models") / "two-layers")


@pytest.fixture(scope="module")
def dataset(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 conversations to train on, six held out."""
    parts = {"train": capitals(24), "eval": capitals(6, 1000)}
    return write_dataset(tmp_path_factory.mktemp("data"), whole, parts)


@pytest.fixture
def train(small: Path, dataset: Path, tmp_path: Path) -> Train:
    """Trains the small model and gives the artifact's folder and its figures."""
    attempts = iter(range(100))

    def call(
        settings: TrainSettings, execution: dict[str, Any] | None = None, **named: Any
    ) -> tuple[Path, dict[str, Any]]:
        inputs = {Kind.BASE: named.pop("base", small), Kind.DATASET: dataset, **named.pop("more", {})}
        folder = (
            run(train_work(inputs, tmp_path / str(next(attempts)), settings, execution, **named))
            .outputs[Kind.ADAPTER]
            .folder
        )
        return folder, json.loads((folder / "figures.json").read_text())

    return call


@pytest.fixture(scope="module")
def uninterrupted(small: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[float]]:
    """Digest of the weights and losses of the eight steps without any interruption."""
    work = train_work(
        {Kind.BASE: small, Kind.DATASET: dataset},
        tmp_path_factory.mktemp("whole"),
        train_settings(**EIGHT_STEPS),
        EXECUTION,
    )
    folder = run(work).outputs[Kind.ADAPTER].folder
    return digest(folder), losses(folder)


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [event["loss"] for event in events(folder) if "loss" in event]


def checkpoints_in(folder: Path, **named: Any) -> FolderCheckpoints:
    folder.mkdir(exist_ok=True)
    return FolderCheckpoints(folder, **named)


def masked_loss(model: Path, dataset: Path, rows: list[int], part: str = "train", adapter: Path | None = None) -> float:
    """By hand: row by row in fp32, the mean cross entropy of the supervised tokens."""
    import pyarrow.parquet as pq
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    if adapter is not None:
        from peft import PeftModel

        network = PeftModel.from_pretrained(network, adapter)
    table = pq.read_table(dataset / f"{part}.parquet").to_pylist()
    total, count = 0.0, 0
    with torch.no_grad():
        for row in rows:
            ids, mask = torch.tensor(table[row]["input_ids"]), torch.tensor(table[row]["mask"], dtype=torch.bool)
            logits = network.eval()(input_ids=ids[None]).logits[0, :-1]
            each = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
            total += float(each[mask[1:]].sum())
            count += int(mask[1:].sum())
    return total / count


def first_rows(dataset: Path, count: int) -> list[int]:
    import pyarrow.parquet as pq

    from tunesmith_trainer.engines.order import epoch_order

    lengths = [len(row) for row in pq.read_table(dataset / "train.parquet")["input_ids"].to_pylist()]
    return epoch_order(lengths, count, 42, 0)[:count]


def test_the_first_loss_is_the_masked_cross_entropy(whole: Path, dataset: Path, train: Train):
    """Our own labels reach the model: the trainer's first loss is the one computed by hand (P2, P4)."""
    _, figures = train(train_settings(max_steps=1, effective_batch_size=4), {"batch_size": 2}, base=whole)

    expected = masked_loss(whole, dataset, first_rows(dataset, 4))
    assert figures["firstLoss"] == pytest.approx(expected, rel=0.01)


def test_micro_batches_change_nothing_but_rounding(train: Train):
    """One step is one step, in however many parts it is computed."""
    curves = [losses(train(train_settings(max_steps=3), {"batch_size": size})[0]) for size in (1, 2, 4)]

    assert curves[1] == pytest.approx(curves[0], rel=0.01)
    assert curves[2] == pytest.approx(curves[0], rel=0.01)


def test_computing_activations_twice_changes_nothing_but_rounding(train: Train):
    """P21: adapters behind frozen layers learn as they do without; the last loss is after two steps of theirs."""
    kept, _ = train(train_settings(max_steps=3), {"gradient_checkpointing": False})
    again, figures = train(train_settings(max_steps=3), {"gradient_checkpointing": True})

    assert figures["gradientCheckpointing"] is True
    assert losses(again) == pytest.approx(losses(kept), rel=0.01)


def test_packed_rows_do_not_see_each_other(train: Train):
    """P7, P79: with packing the losses are those of padded rows."""
    padded, _ = train(train_settings(max_steps=3))
    packed, figures = train(train_settings(max_steps=3, packing=True))

    assert figures["packing"] is True
    assert losses(packed) == pytest.approx(losses(padded), rel=0.01)


def test_rows_that_see_each_other_would_be_noticed(whole: Path, dataset: Path):
    """The tolerance of the packing check is far below what an attention mask of ones does."""
    import pyarrow.parquet as pq
    import torch
    from transformers import AutoModelForCausalLM

    from tunesmith_trainer.engines.collate import Collator

    model = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32).eval()
    rows = pq.read_table(dataset / "train.parquet").slice(0, 2).to_pylist()
    packed, alone = Collator(2, flatten=True)(rows), Collator(2, flatten=True)(rows[1:])
    start = len(rows[0]["input_ids"])

    def predictions(batch: dict[str, Any], begin: int, **more: Any) -> Any:
        with torch.no_grad():
            out = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False, **more)
        return out.logits[0, begin : begin + 8].log_softmax(-1)

    def divergence(other: Any) -> float:
        right = predictions(alone, 0)
        return float((right.exp() * (right - other)).sum(-1).max())

    assert divergence(predictions(packed, start)) < 0.001
    assert divergence(predictions(packed, start, attention_mask=torch.ones_like(packed["input_ids"]))) > 0.5


def test_a_killed_training_ends_as_if_it_had_not_been_killed(
    small: Path, dataset: Path, tmp_path: Path, train: Train, uninterrupted: tuple[str, list[float]]
):
    """SIGKILL after step 6: the same command again gives the same weights, bit by bit, and the whole log (P23)."""
    call = {
        "base": str(small),
        "dataset": str(dataset),
        "scratch": str(tmp_path / "killed"),
        "settings": {**EIGHT_STEPS, "lora": EIGHT_STEPS["lora"].model_dump(mode="json")},
        "execution": EXECUTION,
        "checkpoints": str(tmp_path / "checkpoints"),
        "killAt": 6,
    }
    checkpoints = checkpoints_in(tmp_path / "checkpoints")
    (tmp_path / "calls.json").write_text(json.dumps([call]))
    call_files = (tmp_path / "calls.json", tmp_path / "results.json")
    child = subprocess.run([sys.executable, "-m", "support.train_child", *call_files], cwd=TESTS, check=False)
    assert child.returncode == -signal.SIGKILL

    folder, figures = train(train_settings(**EIGHT_STEPS), EXECUTION, checkpoints=checkpoints)

    assert (figures["resumedFrom"], figures["steps"]) == (6, 8)
    assert uninterrupted == (digest(folder), losses(folder))


def test_a_damaged_newest_checkpoint_is_passed_over(
    tmp_path: Path, train: Train, uninterrupted: tuple[str, list[float]]
):
    """Training goes on from the one before, and ends the same."""
    checkpoints = checkpoints_in(tmp_path / "checkpoints")
    train(train_settings(**EIGHT_STEPS), EXECUTION, checkpoints=checkpoints)
    assert checkpoints.saved == [3, 6]
    weights = tmp_path / "checkpoints" / "step-6" / "optimizer.pt"
    weights.write_bytes(weights.read_bytes()[:-100])

    folder, figures = train(train_settings(**EIGHT_STEPS), EXECUTION, checkpoints=checkpoints)

    assert figures["resumedFrom"] == 3
    assert uninterrupted == (digest(folder), losses(folder))


def test_an_interruption_costs_no_step(tmp_path: Path, train: Train, uninterrupted: tuple[str, list[float]]):
    """P24: what is stored is at least the step at the signal less one; the failure says so; then it goes on."""
    checkpoints = checkpoints_in(tmp_path / "checkpoints")

    with pytest.raises(StageFailure, match=r"saved at step [45] of 8") as found:
        train(train_settings(**EIGHT_STEPS), {"batch_size": 2}, checkpoints=checkpoints, **InterruptAt(4).named())
    assert FailureClass.INTERRUPTED is found.value.failure
    assert checkpoints.saved[-1] >= 4 - 1

    posts = Posts()
    folder, figures = train(train_settings(**EIGHT_STEPS), {"batch_size": 2}, checkpoints=checkpoints, progress=posts)
    assert figures["resumedFrom"] == checkpoints.saved[0]
    assert uninterrupted == (digest(folder), losses(folder))
    # What was done before says nothing of the time left.
    assert (checkpoints.saved[0] / 8, {"phase": "training"}) in posts.seen


@pytest.mark.parametrize("signalled", [3, 4], ids=["in the step before", "during the evaluation"])
def test_an_evaluation_that_an_interruption_displaced_is_made_up_for(tmp_path: Path, train: Train, signalled: int):
    """Interrupted where an evaluation was due: it comes first when training goes on, and the log has each once."""
    checkpoints = checkpoints_in(tmp_path / "checkpoints")
    settings = train_settings(max_steps=6, eval_every=4)

    with pytest.raises(StageFailure, match="saved at step 4 of 6"):
        train(settings, checkpoints=checkpoints, **InterruptAt(signalled).named())
    folder, _ = train(settings, checkpoints=checkpoints)

    assert [event["step"] for event in events(folder) if "evalLoss" in event] == [4, 6]
    assert [event["step"] for event in events(folder) if "loss" in event] == [1, 2, 3, 4, 5, 6]


def test_an_interruption_before_the_first_step_says_so(train: Train):
    """There is nothing to save yet, and nothing is trained."""
    interrupted = threading.Event()
    interrupted.set()

    with pytest.raises(StageFailure, match="before anything of 2 steps was saved"):
        train(train_settings(max_steps=2), interrupted=interrupted)


def test_an_interruption_in_the_last_step_is_no_failure(train: Train):
    """Everything is learned: the last weights are measured and written."""
    _, figures = train(train_settings(max_steps=2), **InterruptAt(2).named())

    assert figures["steps"] == 2
    assert figures["evalLoss"] > 0


def test_keep_best_delivers_the_weights_of_the_lowest_loss(small: Path, dataset: Path, train: Train):
    """A learning rate that ruins the model: what is delivered is the best, measured again from its files."""
    settings = train_settings(
        max_steps=8, eval_every=1, keep_best=True, scheduler="Linear", learning_rate=0.2, warmup_ratio=0.5
    )
    folder, figures = train(settings)

    curve = {event["step"]: event["evalLoss"] for event in events(folder) if "evalLoss" in event}
    assert figures["deliveredStep"] == figures["bestStep"] == min(curve, key=lambda step: curve[step]) < 8
    assert figures["evalLoss"] == min(curve.values())
    again = masked_loss(small, dataset, list(range(6)), "eval", folder)
    assert figures["evalLoss"] == pytest.approx(again, rel=0.02)


def test_the_best_weights_travel_with_the_checkpoint(tmp_path: Path, train: Train):
    """Interrupted after the best step, gone on elsewhere: the same weights are delivered."""
    settings = train_settings(
        max_steps=8, eval_every=1, keep_best=True, scheduler="Linear", learning_rate=0.2, warmup_ratio=0.5
    )
    expected, figures = train(settings)
    checkpoints = checkpoints_in(tmp_path / "checkpoints")
    with pytest.raises(StageFailure, match="saved at step"):
        train(settings, checkpoints=checkpoints, **InterruptAt(figures["bestStep"] + 2).named())
    folder, again = train(settings, checkpoints=checkpoints)

    assert again["deliveredStep"] == figures["deliveredStep"] < again["resumedFrom"]
    assert digest(expected) == digest(folder)


def test_early_stopping_ends_after_its_patience(train: Train):
    """Two evaluations that gain less than asked for, and training is over and done, not interrupted."""
    settings = train_settings(
        max_steps=12, eval_every=2, scheduler="Constant", early_stopping={"patience": 2, "minImprovement": 9.9}
    )
    _, figures = train(settings)

    assert (figures["steps"], figures["totalSteps"]) == (6, 12)


def test_divergence_is_a_failure(tmp_path: Path, train: Train):
    """P27: training that has lost its way stops, and nothing of it is stored."""
    checkpoints = checkpoints_in(tmp_path / "checkpoints")
    settings = train_settings(max_steps=6, learning_rate=1e30, warmup_ratio=0.0)

    with pytest.raises(StageFailure) as found:
        train(settings, {"save_every": 3}, checkpoints=checkpoints)
    assert FailureClass.TRAINING_DIVERGED is found.value.failure
    assert checkpoints.saved == []


def test_progress_is_told_at_every_step(train: Train):
    """Fraction, loss, step and speed, as Kubeflow's payload has them."""
    posts = Posts()
    train(train_settings(max_steps=3), progress=posts)

    told = [(fraction, metrics) for fraction, metrics in posts.seen if "current_step" in metrics]
    assert [pytest.approx(step / 3) for step in (1, 2, 3)] == [fraction for fraction, _ in told]
    assert {"loss", "current_step", "total_steps", "tokens_per_second", "learning_rate", "grad_norm"} <= set(told[0][1])


def test_the_adapter_can_be_handed_over(train: Train):
    """P37, P80: the base is named by its URI, no path of this machine is in any file, and the figures are whole.

    And it says how it was scaled, or it would be merged with another strength than it was trained with.
    """
    lora = LoraSettings(rank=8, alpha=16, dropout=0.0, target_modules=("q_proj", "down_proj"), rs_lora=True)
    folder, figures = train(train_settings(max_steps=2, lora=lora))

    assert {"adapter_config.json", "adapter_model.safetensors", "figures.json", "log.jsonl"} == {
        path.name for path in folder.iterdir()
    }
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("HuggingFaceTB/SmolLM2", "abc")
    assert config["use_rslora"] is True
    for path in folder.iterdir():
        assert str(folder.parents[1]).encode() not in path.read_bytes()
    for name in (
        "trainLoss",
        "evalLoss",
        "tokens",
        "supervisedTokens",
        "tokensPerSecond",
        "peakMemoryBytes",
        "seconds",
    ):
        assert figures[name] > 0


def test_full_fine_tuning_writes_a_16_bit_model(small: Path, train: Train):
    """P34, P35: bf16 weights and the base's own description; the tokenizer stays the base's."""
    from safetensors import safe_open

    folder, _ = train(train_settings(method="Full", lora=None, max_steps=2, learning_rate=1e-4))

    assert {"config.json", "model.safetensors", "figures.json", "log.jsonl"} == {path.name for path in folder.iterdir()}
    assert (
        json.loads((small / "config.json").read_text()).keys()
        == json.loads((folder / "config.json").read_text()).keys()
    )
    with safe_open(small / "model.safetensors", "pt") as before, safe_open(folder / "model.safetensors", "pt") as after:
        assert set(before.keys()) == set(after.keys())
        name = "model.layers.0.mlp.down_proj.weight"
        assert after.get_slice(name).get_dtype() == "BF16"
        assert not before.get_tensor(name).equal(after.get_tensor(name))


def test_full_fine_tuning_goes_on_after_an_interruption(tmp_path: Path, train: Train):
    """All weights travel with the checkpoint; the end is the same."""
    settings = train_settings(method="Full", lora=None, max_steps=4, learning_rate=1e-4)
    checkpoints = checkpoints_in(tmp_path / "checkpoints")
    expected, _ = train(settings)
    with pytest.raises(StageFailure, match=r"saved at step [12] of 4"):
        train(settings, checkpoints=checkpoints, **InterruptAt(1).named())
    folder, _ = train(settings, checkpoints=checkpoints)

    assert losses(expected) == losses(folder)
    assert (expected / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_training_goes_on_from_an_adapter(train: Train):
    """The first loss is where the first training ended, not where the base is."""
    first, figures = train(train_settings(max_steps=10, learning_rate=5e-3))
    settings = train_settings(max_steps=1, start_adapter="sha256:0")
    _, more = train(settings, more={Kind.ADAPTER: first})

    assert more["firstLoss"] < figures["firstLoss"] * 0.7
    assert more["firstLoss"] == pytest.approx(figures["trainLoss"], rel=0.2)


def test_adafactor_learns(train: Train):
    """The one optimizer that a CPU does not exchange for AdamW: two steps, and the adapter is no longer idle."""
    from safetensors.torch import load_file

    folder, figures = train(train_settings(max_steps=2, optimizer="Adafactor"))

    assert figures["optimizer"] == "adafactor"
    assert [loss > 0 for loss in losses(folder)] == [True, True]
    # The second factor begins with zeros.
    learned = [value for name, value in load_file(folder / "adapter_model.safetensors").items() if "lora_B" in name]
    assert learned
    assert all(value.any() for value in learned)


def test_an_evaluation_does_not_break_qlora(train: Train):
    """P75: on CPUs with AVX512-BF16 bitsandbytes would repack its weights in the first evaluation, for good."""
    settings = {"method": "QLoRA", "max_steps": 6, "learning_rate": 5e-3}
    often, _ = train(train_settings(**settings, eval_every=2))
    once, _ = train(train_settings(**settings, eval_every=6))

    assert digest(once) == digest(often)
    assert losses(once)[-1] < losses(once)[0]


@pytest.mark.parametrize("fault", ["raises", "has no gradient", "computes no numbers"])
def test_a_bitsandbytes_that_cannot_train_is_found_before_training(monkeypatch: pytest.MonkeyPatch, fault: str):
    """P76: it puts functions that raise in the place of code that it cannot load, and imports without a word."""
    import bitsandbytes
    import torch

    def broken(layer: Any, values: torch.Tensor) -> torch.Tensor:
        if fault == "raises":
            raise RuntimeError("Native code method was called: library not loaded")
        result = values.new_ones(len(values), layer.out_features)
        return result if fault == "has no gradient" else values.sum() * result * torch.nan

    probe_nf4(Device.CPU, torch.float32)
    monkeypatch.setattr(bitsandbytes.nn.Linear4bit, "forward", broken)

    with pytest.raises(StageFailure, match="cannot train in 4 bits on this machine") as found:
        probe_nf4(Device.CPU, torch.float32)
    assert FailureClass.TOOLS_MISSING is found.value.failure


def test_a_target_that_is_no_layer_is_refused(train: Train):
    """P81, with a real model: Phi-3's names on a Llama."""
    lora = LoraSettings(rank=8, alpha=16, dropout=0.0, target_modules=("qkv_proj", "o_proj"))

    with pytest.raises(StageFailure, match="no layer of this model is called qkv_proj") as found:
        train(train_settings(max_steps=1, lora=lora))
    assert FailureClass.SPEC_INVALID is found.value.failure


def test_no_adapter_on_the_tied_output_layer(train: Train):
    """P33, with a real model."""
    lora = LoraSettings(rank=8, alpha=16, dropout=0.0, target_modules=("q_proj", "lm_head"))

    with pytest.raises(StageFailure, match="shares its weights"):
        train(train_settings(max_steps=1, lora=lora))
