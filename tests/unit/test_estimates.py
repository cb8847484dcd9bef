"""How large things will be, against sizes that were published or measured."""

import pytest

from support.builders import dimensions
from tunesmith_api.estimates import logits_bytes, quantized_bytes
from tunesmith_api.settings import BaselineSettings

# Llama 3.2 1B: its config.json, and what its published files take in GB.
LLAMA_1B = dimensions(
    hiddenSize=2048, intermediateSize=8192, layers=16, heads=32, kvHeads=8, vocabSize=128_256, parameters=1_235_814_400
)
PUBLISHED = {"Q4_K_M": 0.81, "Q6_K": 1.02, "Q8_0": 1.32}


@pytest.mark.parametrize("type_", PUBLISHED)
def test_embeddings_of_a_small_model_are_counted_at_their_own_width(type_: str) -> None:
    """P60: tied to the output they get more bits than the type's name says, a fifth of a 1B model's weights."""
    assert quantized_bytes(LLAMA_1B, type_) / 1e9 == pytest.approx(PUBLISHED[type_], rel=0.035)


def test_the_baselines_logits_are_as_large_as_they_were_measured() -> None:
    """P65: 12 windows of SmolLM2 took 300,859,316 bytes, 24,596 of them header and tokens."""
    assert logits_bytes(dimensions(), BaselineSettings(chunks=12, max_bytes=1 << 40)) == 300_859_316 - 24_596
    assert logits_bytes(dimensions(), BaselineSettings(chunks=12, max_bytes=1000)) == 1000
