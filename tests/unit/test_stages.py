"""A result fits into a termination message, whatever went wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.quantizations import QuantizationType
from tunesmith_api.stages import RESULT_BYTES, Stage, StageResult, failure_of, fitting


def size(result: StageResult) -> int:
    return len(result.model_dump_json(by_alias=True, exclude_none=True).encode())


def failed(message: str) -> StageResult:
    failure = failure_of(StageFailure(FailureClass.CONVERSION_INVALID, message), Stage.CONVERT)
    return StageResult(stage=Stage.CONVERT, failure=failure, figures={"made": 1})


@given(st.text(max_size=20_000))
def test_no_message_is_too_long(message: str) -> None:
    """Escapes and characters of four bytes included."""
    assert size(fitting(failed(message))) <= RESULT_BYTES


@pytest.mark.parametrize("filler", ["x", "\x00", "🙂", '"'])
def test_both_ends_of_a_long_message_stay(filler: str) -> None:
    """What a tool did, and what it said last."""
    cut = fitting(failed("llama-quantize: " + filler * 10_000 + " no space left"))

    assert cut.failure is not None
    assert cut.failure.message.startswith("llama-quantize: ")
    assert cut.failure.message.endswith(" no space left")
    assert size(cut) <= RESULT_BYTES


def test_what_fits_is_left_alone() -> None:
    """Figures and message."""
    assert fitting(failed("short")) == failed("short")


def test_every_type_of_llama_cpp_fits_in_a_result_of_figures() -> None:
    """The design's promise for what prepare says to a plan of all types (contract 5)."""
    figures = {f"quantize-{type_.value}": True for type_ in QuantizationType}
    result = StageResult(
        stage=Stage.PREPARE, figures=figures | {f"dataset-{n}": "sha256:" + "0" * 64 for n in range(16)}
    )

    assert fitting(result) == result
