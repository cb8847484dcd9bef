"""Verdicts are pure functions of figures and thresholds."""

import pytest

from tunesmith_api.gates import Verdict, judge, lower_gate, paired_gate, upper_gate, worst
from tunesmith_api.measuring import Gates

GOOD = {
    "perplexityIncrease": {"value": 0.05, "error": 0.01},
    "logPerplexityIncrease": {"value": 0.01, "error": 0.002},
    "klDivergence": {"mean": 0.02, "error": 0.001},
    "sameTop": {"value": 0.93, "error": 0.004},
    "chat": {"answered": 20, "clean": 20, "leaks": 0},
    "scoreDrop": {"value": 0.0, "low": -0.05, "high": 0.05},
    "lossIncrease": {"value": 0.01, "low": -0.01, "high": 0.03},
}


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        pytest.param(0.05, 0.01, Verdict.PASSED, id="well below"),
        pytest.param(0.45, 0.02, Verdict.PASSED, id="the whole interval is below"),
        pytest.param(0.45, 0.03, Verdict.INCONCLUSIVE, id="the interval spans the threshold"),
        pytest.param(0.50, 0.00, Verdict.FAILED, id="at the threshold"),
        pytest.param(1.50, 0.02, Verdict.FAILED, id="three times the threshold"),
        pytest.param(-0.2, 0.01, Verdict.PASSED, id="better than the baseline"),
        pytest.param(float("nan"), None, Verdict.FAILED, id="no number at all"),
        pytest.param(float("inf"), None, Verdict.FAILED, id="infinite"),
        pytest.param(None, None, Verdict.INCONCLUSIVE, id="not measured"),
    ],
)
def test_an_upper_gate_judges_the_upper_end(value: float | None, error: float | None, expected: Verdict) -> None:
    """Two standard errors above the figure is what has to stay below the threshold."""
    assert upper_gate("g", {"value": value, "error": error}, 0.5).verdict is expected


def test_a_lower_gate_judges_the_lower_end() -> None:
    """The mirror image."""
    assert lower_gate("g", {"value": 0.97}, 0.95).verdict is Verdict.PASSED
    assert lower_gate("g", {"value": 0.96, "error": 0.01}, 0.95).verdict is Verdict.INCONCLUSIVE
    assert lower_gate("g", {"value": 0.90}, 0.95).verdict is Verdict.FAILED


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_fails_whichever_way_a_gate_looks(value: float) -> None:
    """And the report, which is JSON, holds none."""
    figure = {"value": value, "error": None, "low": value, "high": value}
    for gate in (upper_gate, lower_gate, paired_gate):
        result = gate("g", figure, 0.5)
        assert (result.verdict, result.value) == (Verdict.FAILED, None)


def test_a_good_file_passes_every_gate_ideally() -> None:
    """All gates that are set apply."""
    results = judge(Gates(max_kl_divergence=0.1, min_same_top=0.9), GOOD)

    assert worst(results) is Verdict.PASSED
    assert results[0].ideal is True
    names = {result.name for result in results}
    assert names >= {
        "maxPerplexityIncrease",
        "maxKLDivergence",
        "minSameTop",
        "minAnswersClean",
        "maxScoreDrop",
        "maxLossIncrease",
    }


@pytest.mark.parametrize(
    ("broken", "gate"),
    [
        pytest.param({"perplexityIncrease": {"value": 1.5, "error": 0.1}}, "maxPerplexityIncrease", id="perplexity"),
        pytest.param({"logPerplexityIncrease": {"value": 0.3, "error": 0.01}}, "maxLogPerplexityIncrease", id="log"),
        pytest.param({"chat": {"answered": 20, "clean": 3, "leaks": 0}}, "minAnswersClean", id="never stops"),
        pytest.param({"scoreDrop": {"value": 0.3, "low": 0.18, "high": 0.42}}, "maxScoreDrop", id="answers worse"),
        pytest.param({"lossIncrease": {"value": 0.2, "low": 0.1, "high": 0.3}}, "maxLossIncrease", id="loss"),
        pytest.param({"chat": {"answered": 20, "clean": 20, "leaks": 2}}, "noMarkupLeaked", id="leaks markup"),
    ],
)
def test_one_broken_figure_fails_the_file(broken: dict[str, object], gate: str) -> None:
    """Each gate alone is enough."""
    results = judge(Gates(), GOOD | broken)

    assert worst(results) is Verdict.FAILED
    assert [result.name for result in results if result.verdict is Verdict.FAILED] == [gate]


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        pytest.param(0.02, -0.02, 0.06, Verdict.PASSED, id="well below"),
        pytest.param(0.04, -0.02, 0.11, Verdict.INCONCLUSIVE, id="the interval spans the threshold"),
        pytest.param(0.17, 0.00, 0.50, Verdict.INCONCLUSIVE, id="one answer of six, which may be chance"),
        pytest.param(0.30, 0.18, 0.42, Verdict.FAILED, id="beyond the threshold and beyond chance"),
        pytest.param(-0.10, -0.20, 0.00, Verdict.PASSED, id="better than the tuned model"),
    ],
)
def test_a_paired_gate_fails_nothing_by_chance(value: float, low: float, high: float, expected: Verdict) -> None:
    """The upper end has to stay below the threshold; the lower end above zero is what a failure takes."""
    assert paired_gate("g", {"value": value, "low": low, "high": high}, 0.1).verdict is expected


def test_a_completion_is_judged_as_a_chat_is() -> None:
    """A plain-text model has no template, and its file has to say something all the same."""
    figures = {name: value for name, value in GOOD.items() if name != "chat"}
    results = judge(Gates(), figures | {"completion": {"answered": 20, "clean": 0, "leaks": 0}})

    assert worst(results) is Verdict.FAILED


def test_markup_in_the_answer_to_a_greeting_fails_too() -> None:
    """The probes are no rows of the dataset and count for nothing else."""
    chat = {"answered": 20, "clean": 20, "leaks": 0, "probes": [{"leaks": []}, {"leaks": ["<|im_start|>"]}]}

    assert worst(judge(Gates(), GOOD | {"chat": chat})) is Verdict.FAILED


def test_what_was_not_measured_is_inconclusive_and_never_fails() -> None:
    """An absent figure marks the file and does not withhold it."""
    assert worst(judge(Gates(), {})) is Verdict.INCONCLUSIVE


def test_an_ideal_that_nobody_wrote_follows_the_highest_rise() -> None:
    """A file that keeps well below a threshold of 0.05 keeps below an ideal of 0.1 as well."""
    gates = Gates(max_perplexity_increase=0.05)

    assert judge(gates, {"perplexityIncrease": {"value": 0.06}})[0].ideal is False
    assert judge(gates, {"perplexityIncrease": {"value": 0.04}})[0].ideal is True
