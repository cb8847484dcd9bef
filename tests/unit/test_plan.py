"""A spec becomes a DAG of stages whose keys change exactly with what they make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import a_plan, a_spec, record_of, resolved
from tunesmith_api import keys
from tunesmith_api.plan import make_plan
from tunesmith_api.quantizations import QUANTIZATIONS
from tunesmith_api.stages import Kind, Stage
from tunesmith_api.status import JobStatus, StageStatus

ALL_TYPES = [name.value for name in QUANTIZATIONS]
TYPES = st.lists(st.sampled_from(ALL_TYPES), min_size=1, max_size=5, unique=True)


def names(**changes: object) -> list[str]:
    return [stage.name for stage in a_plan(a_spec(**changes)).stages]


def changed(**changes: object) -> set[str]:
    """The stages whose key differs from the smallest spec's."""
    before, after = a_plan(), a_plan(a_spec(**changes))
    known = {stage.name: stage.key for stage in before.stages}
    return {stage.name for stage in after.stages if stage.name in known and known[stage.name] != stage.key}


def test_the_smallest_job_has_every_stage_in_the_order_of_the_data() -> None:
    """Everything is made by default."""
    expected = ["prepare", "train", "convert", "imatrix", "baseline", "evaluate"]
    expected += ["quantize-Q4_K_M", "quantize-Q5_K_M", "quantize-Q8_0", "publish"]

    assert names() == expected


def test_method_none_trains_nothing() -> None:
    """Somebody else's adapter is converted as it is."""
    model = {"source": "hf://org/model", "adapter": "hf://org/adapter"}
    plan = a_plan(a_spec(model=model, training={"method": "None"}))

    assert "train" not in [stage.name for stage in plan.stages]
    assert Kind.ADAPTER in [item.kind for item in plan.stage("convert").inputs]


@pytest.mark.parametrize("adapter", [{}, {"adapter": "hf://org/adapter"}])
def test_how_rows_are_read_reaches_a_gguf_that_is_not_trained(adapter: dict[str, str]) -> None:
    """Its EOS is what ends a turn in the rows: one file as chats and as text must not share a GGUF."""
    chats, texts = (
        a_plan(
            a_spec(
                model={"source": "hf://org/model"} | adapter,
                training={"method": "None"},
                datasets=[{"source": "file://rows.jsonl", "format": format_}],
            )
        ).stage("convert")
        for format_ in ("PromptCompletion", "Text")
    )

    assert chats.key != texts.key
    assert chats.outputs[1] == texts.outputs[1]


def test_training_goes_on_from_an_adapter() -> None:
    """The imported adapter is an input of train and not what is converted."""
    plan = a_plan(a_spec(model={"source": "hf://org/model", "adapter": "hf://org/adapter"}))

    imported = [item for item in plan.stage("train").inputs if item.kind is Kind.ADAPTER]
    converted = [item for item in plan.stage("convert").inputs if item.kind is Kind.ADAPTER]
    assert len(imported) == 1
    assert [plan.stage("train").outputs[0]] == converted


def test_no_importance_matrix_where_no_type_gains() -> None:
    """Auto makes one for low-bit types only; Always makes one for all."""
    assert "imatrix" not in names(quantizations=["Q8_0"])
    assert "imatrix" in names(quantizations=["Q8_0"], imatrix={"mode": "Always"})
    assert "imatrix" not in names(quantizations=["Q4_K_M"], imatrix={"mode": "Never"})


@given(TYPES)
def test_every_stage_comes_after_what_it_needs(types: list[str]) -> None:
    """The tuple of stages is a topological order, and every input is some earlier stage's output."""
    plan = a_plan(a_spec(quantizations=types))
    seen: set[str] = set()
    made: set[str] = set()
    for stage in plan.stages:
        assert set(stage.needs) <= seen
        assert {item.key for item in stage.inputs} <= made
        seen.add(stage.name)
        made |= {output.key for output in stage.outputs}


@given(TYPES, TYPES)
def test_a_type_keeps_its_key_whatever_else_is_asked_for(some: list[str], others: list[str]) -> None:
    """Adding or removing quantizations makes no other quantization again."""
    before, after = a_plan(a_spec(quantizations=some)), a_plan(a_spec(quantizations=others))
    for type_ in set(some) & set(others):
        name = f"quantize-{type_}"
        assert before.stage(name).key == after.stage(name).key
    assert before.stage("train").key == after.stage("train").key


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"gates": {"maxPerplexityIncrease": 9}}, {"publish"}, id="gates enter publish only"),
        pytest.param({"publish": {"hub": {"repo": "a/bcd"}}}, {"publish"}, id="the hub enters publish only"),
        pytest.param({"training": {"batchSize": 2}}, set(), id="micro-batch enters nothing"),
        pytest.param({"training": {"gradientCheckpointing": True}}, set(), id="checkpointing enters nothing"),
        pytest.param({"training": {"saveEvery": 7}}, set(), id="how often it saves enters nothing"),
        pytest.param({"backoffLimit": 0, "priority": 5}, set(), id="retries and priority enter nothing"),
        pytest.param(
            {"imatrix": {"chunks": 7}},
            {"imatrix", "quantize-Q4_K_M", "quantize-Q5_K_M", "publish"},
            id="imatrix reaches low-bit types",
        ),
        pytest.param(
            {"evaluation": {"prompts": 7}},
            {"evaluate", "quantize-Q4_K_M", "quantize-Q5_K_M", "quantize-Q8_0", "publish"},
            id="prompts reach the answers",
        ),
        pytest.param(
            {"evaluation": {"chunks": 20}},
            {"baseline", "quantize-Q4_K_M", "quantize-Q5_K_M", "quantize-Q8_0", "publish"},
            id="windows reach what is measured on the gate text",
        ),
        pytest.param(
            {"evaluation": {"chunks": 2}},
            {"baseline", "evaluate", "quantize-Q4_K_M", "quantize-Q5_K_M", "quantize-Q8_0", "publish"},
            id="few windows reach the general text too",
        ),
    ],
)
def test_what_a_change_makes_again(change: dict[str, object], expected: set[str]) -> None:
    """A change of the spec reaches exactly the stages that read it (contract 2)."""
    assert changed(**change) == expected


def test_a_learning_rate_makes_everything_after_prepare_again() -> None:
    """What changes the weights changes all that is made of them."""
    assert changed(training={"learningRate": 0.5}) == set(names()) - {"prepare"}


def test_a_new_recipe_reaches_only_what_has_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade never runs a finished stage again (contract 2)."""
    before = a_plan()
    recorded = record_of(before, "prepare", "train", "quantize-Q8_0", "baseline", "convert")
    monkeypatch.setitem(keys.RECIPES, Kind.ADAPTER, keys.RECIPES[Kind.ADAPTER] + 1)  # type: ignore[arg-type]  # a dict behind the Mapping
    monkeypatch.setitem(keys.RECIPES, Kind.QUANTIZED, keys.RECIPES[Kind.QUANTIZED] + 1)  # type: ignore[arg-type]
    after = a_plan(recorded=recorded)

    assert after.stage("train").key == before.stage("train").key
    assert after.stage("quantize-Q8_0").key == before.stage("quantize-Q8_0").key
    assert after.stage("quantize-Q5_K_M").key != before.stage("quantize-Q5_K_M").key


def test_new_recipes_of_all_kinds_leave_what_has_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirrored base and somebody else's adapter too, whose keys are not prepare's own."""
    spec = a_spec(model={"source": "hf://org/model", "adapter": "hf://org/adapter"})
    before = a_plan(spec)
    for kind in Kind:
        monkeypatch.setitem(keys.RECIPES, kind, keys.RECIPES[kind] + 1)

    assert a_plan(spec, record_of(before)) == before
    assert a_plan(spec).stage("prepare").outputs != before.stage("prepare").outputs


def test_a_plan_is_made_from_a_status() -> None:
    """What a status says of stages that have a Job or a result holds, whatever their recipes have become."""
    before = a_plan()
    keys = before.stage("train").recorded_keys().model_copy(update={"outputs": {"adapter": "f" * 64}})
    stages = (StageStatus(name="train", keys=keys), StageStatus(name="convert"))
    status = JobStatus.model_validate_json(JobStatus(stages=stages).model_dump_json(by_alias=True))
    after = a_plan(recorded=status.recorded_keys())

    assert after.stage("train").key == "f" * 64
    assert after.stage("convert").key != before.stage("convert").key
    assert after.stage("prepare").key == before.stage("prepare").key


def test_a_recorded_result_is_not_kept_for_another_question() -> None:
    """A finished publish is done again when a quantization is added."""
    recorded = record_of(a_plan())
    spec = a_spec(quantizations=["Q4_K_M", "Q5_K_M", "Q8_0", "Q6_K"])
    after = a_plan(spec, recorded)

    assert after.stage("publish").key != recorded["publish"].outputs["publication"]
    assert after.stage("quantize-Q4_K_M").key == recorded["quantize-Q4_K_M"].outputs["quantized"]


def test_the_job_name_enters_only_publish() -> None:
    """Two jobs of the same content share all artifacts but the published folder."""
    spec = a_spec()
    first, second = (make_plan(name, spec, resolved(spec)) for name in ("one", "two"))
    differing = {a.stage for a, b in zip(first.stages, second.stages, strict=True) if a.key != b.key}

    assert differing == {Stage.PUBLISH}
