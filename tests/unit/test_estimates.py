"""How large things will be, against sizes that were published or measured."""

import pytest

from support.builders import a_plan, a_spec, dimensions, resolved
from tunesmith_api.effective import resolve_settings
from tunesmith_api.estimates import Estimate, Known, estimate, logits_bytes, quantized_bytes, train_tokens
from tunesmith_api.settings import BaselineSettings

# Llama 3.2 1B: its config.json, and what its published files take in GB.
LLAMA_1B = dimensions(
    hiddenSize=2048, intermediateSize=8192, layers=16, heads=32, kvHeads=8, vocabSize=128_256, parameters=1_235_814_400
)
PUBLISHED = {"Q4_K_M": 0.81, "Q6_K": 1.02, "Q8_0": 1.32}
# What llama-quantize of the pinned llama.cpp made of SmolLM2-135M.
MEASURED = {"Q4_K_M": 105_454_912, "Q6_K": 138_383_456, "Q8_0": 144_811_616}


@pytest.mark.parametrize("type_", PUBLISHED)
def test_embeddings_of_a_small_model_are_counted_at_their_own_width(type_: str) -> None:
    """P60: tied to the output they get more bits than the type's name says, a fifth of a 1B model's weights."""
    assert quantized_bytes(LLAMA_1B, type_) / 1e9 == pytest.approx(PUBLISHED[type_], rel=0.035)


@pytest.mark.parametrize("type_", MEASURED)
def test_rows_that_do_not_fit_blocks_of_256_take_another_type(type_: str) -> None:
    """P59: of SmolLM2's 576 columns Q4_K_M makes Q5_0, and Q6_K makes Q8_0."""
    assert quantized_bytes(dimensions(), type_) == pytest.approx(MEASURED[type_], rel=0.02)


def test_no_type_is_estimated_smaller_than_what_replaces_it() -> None:
    """Two bits of 576 columns become four and a half, and more columns change nothing."""
    assert quantized_bytes(dimensions(), "Q2_K") > 134_515_008 * 4 / 8
    assert quantized_bytes(dimensions(hiddenSize=512, heads=8), "Q2_K") < 134_515_008 * 4 / 8


def expected(known: Known, source: str = "hf://org/model", **training: object) -> Estimate:
    """The estimate of a job with these fields of spec.training."""
    spec = a_spec(model={"source": source}, training=training)
    found = resolved(spec)
    values = resolve_settings("job", spec, found)
    return estimate(found, values, tuple(name.value for name in spec.quantizations), known)


@pytest.mark.parametrize(
    ("left", "fewer"),
    [
        ("imatrix", {"imatrix": {"chunks": 10}}),
        ("baseline", {"evaluation": {"chunks": 10}}),
        ("quantize-Q4_K_M", {"evaluation": {"chunks": 10}}),
        ("quantize-Q4_K_M", {"evaluation": {"prompts": 10}}),
        ("evaluate", {"evaluation": {"chunks": 10}}),
        ("evaluate", {"evaluation": {"prompts": 10}}),
    ],
)
def test_fewer_windows_and_prompts_take_less_time(left: str, fewer: dict[str, object]) -> None:
    """Each of the stages that read them."""
    spec = a_spec()
    seconds = [
        estimate(found := resolved(each), resolve_settings("job", each, found), (), Known(1000, left=(left,))).seconds
        for each in (spec, a_spec(**fewer))
    ]

    assert seconds[1] < seconds[0]


@pytest.mark.parametrize(
    ("steps", "rows", "tokens"),
    [
        pytest.param(12, None, 12 * 16 * 256, id="rows as long as they may be"),
        pytest.param(12, 60, 12 * 16 * 20, id="rows of 6000 bytes / 60 = 100 bytes, 20 tokens"),
        pytest.param(1000, 60, 1000 * 16 * 20, id="more than the epochs have"),
        pytest.param(12, 2, 12 * 16 * 256, id="no row is longer than it may be"),
        pytest.param(None, 60, 2 * 1200, id="epochs"),
    ],
)
def test_steps_and_not_epochs_say_how_much_is_trained(steps: int | None, rows: int | None, tokens: int) -> None:
    """maxSteps takes precedence, in both directions."""
    spec = a_spec(training={"maxSteps": steps, "epochs": 2, "maxSequenceLength": 256, "effectiveBatchSize": 16})
    train = resolve_settings("job", spec, resolved(spec)).train

    assert train_tokens(6000, rows, train) == tokens
    assert train_tokens(6000, rows, train.model_copy(update={"packing": True})) == tokens


def test_only_stages_that_are_left_take_time() -> None:
    """A job whose training is in the store is soon done; of one that is done nothing is left."""
    names = tuple(stage.name for stage in a_plan().stages)
    whole = expected(Known(left=names), maxSteps=1000)
    measuring = expected(Known(left=names[2:]), maxSteps=1000)

    assert names[:2] == ("prepare", "train")
    assert measuring.seconds < whole.seconds / 50
    assert (whole.download_bytes > 0, measuring.download_bytes) == (True, 0)
    assert expected(Known(left=()), maxSteps=1000).seconds == 0
    assert measuring.train_tokens == whole.train_tokens


def test_a_processor_without_bf16_takes_twice_as_long() -> None:
    """But for what starting its stages takes: the quickstart took 15 minutes on AVX2, 7.5 on AVX-512."""
    fast, slow = (expected(Known(bf16=bf16), maxSteps=1000).seconds for bf16 in (True, False))

    assert slow / fast == pytest.approx(2, rel=0.05)
    assert expected(Known(left=(), bf16=False)).seconds == 0


def test_what_lies_here_is_not_downloaded() -> None:
    """The model's bytes count where they come from elsewhere."""
    here, away = (expected(Known(), source).download_bytes for source in ("file://model", "hf://org/model"))

    assert away - here == dimensions().bytes


def test_the_baselines_logits_are_as_large_as_they_were_measured() -> None:
    """P65: 12 windows of SmolLM2 took 300,859,316 bytes, 24,596 of them header and tokens."""
    assert logits_bytes(dimensions(), BaselineSettings(chunks=12, max_bytes=1 << 40)) == 300_859_316 - 24_596
    assert logits_bytes(dimensions(), BaselineSettings(chunks=12, max_bytes=1000)) == 1000
