"""What a stage is told where the manifest is silent: the family's values, by the method that is trained."""

from typing import Any

import pytest

from support.builders import a_spec, dimensions, resolved
from tunesmith_api import families
from tunesmith_api.effective import resolve_settings, train_settings
from tunesmith_api.settings import TrainSettings
from tunesmith_api.training import Engine

GPU = {"gpu": {"memory": "16Gi"}}


def trained(family: str = "smollm2", **training: Any) -> TrainSettings:
    spec = a_spec(training=training)
    return train_settings(spec, resolved(spec, family=family), families.load(family))


@pytest.mark.parametrize("name", families.names())
def test_an_adapter_goes_on_every_linear_layer(name: str) -> None:
    """P18: PEFT's own choice is two layers of attention, which learn less however large they are."""
    wanted = families.load(name).lora_targets

    assert trained(name).lora.target_modules == wanted  # type: ignore[union-attr]  # LoRA is the default
    assert trained(name, lora={"rank": 4}).lora.target_modules == wanted  # type: ignore[union-attr]
    assert {"q_proj", "v_proj"} < set(wanted)
    assert any(target.startswith(("down", "gate")) for target in wanted)


@pytest.mark.parametrize("name", families.names())
def test_full_fine_tuning_is_not_given_an_adapters_learning_rate(name: str) -> None:
    """P28: adapters learn at about ten times the rate that all weights bear."""
    lora, full = (trained(name, method=method).learning_rate for method in ("LoRA", "Full"))

    assert 5 <= lora / full <= 20
    assert trained(name, method="QLoRA").learning_rate == lora
    assert trained(name, method="Full", learningRate=0.5).learning_rate == 0.5


@pytest.mark.parametrize(
    ("family", "training", "expected"),
    [
        ("smollm2", GPU, Engine.UNSLOTH),
        ("generic", GPU, Engine.TRANSFORMERS),
        ("smollm2", {}, Engine.TRANSFORMERS),
        ("generic", {"engine": "Unsloth"}, Engine.UNSLOTH),
    ],
)
def test_unsloth_is_chosen_only_where_its_adapter_fits_the_original(
    family: str, training: dict[str, Any], expected: Engine
) -> None:
    """P17: it gives some families layers of other names; whoever asks for it gets it, and the merge decides."""
    assert trained(family, **training).engine is expected


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("hf://Qwen/Qwen2.5-1.5B-Instruct", "hf://Qwen/Qwen2.5-1.5B-Instruct"),
        ("file:///home/ada/models/tiny", "tiny"),
        ("file://models/tiny", "tiny"),
        ("https://host/tiny.tar.gz?signature=secret", "https://host/tiny.tar.gz"),
    ],
)
def test_where_a_model_lies_on_a_machine_makes_no_other_artifact(source: str, told: str) -> None:
    """Two users with one model in folders of their own share what is made of it; and no signature gets into a key."""
    spec = a_spec(model={"source": source})
    pinned = resolved(spec, uri=source, name="tiny")

    assert resolve_settings("job", spec, pinned).convert.base_source == told


@pytest.mark.parametrize(("rows", "model", "served"), [(128, 8192, 2048), (4096, 8192, 4096), (128, 512, 512)])
def test_short_rows_are_no_reason_to_forget_a_conversation(rows: int, model: int, served: int) -> None:
    """P70: at least what Ollama gives by itself, at most what the model can read."""
    spec = a_spec(training={"maxSequenceLength": rows})
    pinned = resolved(spec, dimensions=dimensions(maxPositionEmbeddings=model))

    assert resolve_settings("job", spec, pinned).publish.context_length == served


@pytest.mark.parametrize(("gates", "ideal"), [({}, 0.1), ({"maxPerplexityIncrease": 0.05}, 0.05)])
def test_an_ideal_that_nobody_wrote_follows_the_highest_rise(gates: dict[str, float], ideal: float) -> None:
    """Publish is told the number, so that its key is the same whether 0.1 is written or not."""
    spec, written = a_spec(gates=gates), a_spec(gates={"idealPerplexityIncrease": ideal} | gates)
    told = resolve_settings("j", spec, resolved(spec)).publish

    assert told.gates.ideal_perplexity_increase == ideal
    assert told == resolve_settings("j", written, resolved(written)).publish
