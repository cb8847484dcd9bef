"""What is wrong with a GGUF, a matrix or a measurement is found by the check that is there for it: the real model."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.gguf_mutations import set_scalar, set_template, truncate, zero_tensor
from support.gguf_stages import Posts, answers, baseline_work, imatrix_work, quantize_work, write_prepared
from support.ggufs import folder_of, smollm2_gguf, with_entries, with_noise, with_text
from support.models import smollm2
from tunesmith.llama_cpp import find_tools
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.gates import Verdict, judge
from tunesmith_api.measuring import Gates
from tunesmith_api.quantizations import QuantizationType
from tunesmith_api.stages import Kind
from tunesmith_trainer import baseline, imatrix, quantize
from tunesmith_trainer.llama.gguf_file import read_gguf
from tunesmith_trainer.llama.importance import read_importance
from tunesmith_trainer.llama.perplexity import Divergence, Measuring, compare_with_baseline
from tunesmith_trainer.llama.quantization import Quantizing, mistakes, plan_quantization
from tunesmith_trainer.llama.quantization import quantize as write_quantized
from tunesmith_trainer.llama.server import Serving, serve
from tunesmith_trainer.parity.verify import open_model
from tunesmith_trainer.scores.answering import TEMPLATE_KEY, Answered, Asking, ask
from tunesmith_trainer.scores.held_out import HeldOut, read_held_out

CHUNKS = 4
# SmolLM2 answers each of these with one sentence and an end.
COUNTRIES = ("France", "Japan", "Italy", "Spain", "Germany", "Egypt", "Norway", "Peru")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    """The bf16 GGUF, a prepared dataset, the importance matrix and the baseline's logits of the healthy model."""
    root = tmp_path_factory.mktemp("inputs")
    rows = [
        [
            {"role": "user", "content": f"What is the capital of {country}?"},
            {"role": "assistant", "content": f"The capital of {country} is a city."},
        ]
        for country in COUNTRIES
    ]
    given = {
        Kind.GGUF: folder_of(smollm2_gguf(), root / "gguf"),
        Kind.DATASET: write_prepared(root / "dataset", smollm2(), rows),
    }
    made = imatrix.run(imatrix_work(given, root / "imatrix", CHUNKS)).outputs[Kind.IMATRIX].folder
    logits = baseline.run(baseline_work(given, root / "baseline", CHUNKS)).outputs[Kind.LOGITS].folder
    return given | {Kind.IMATRIX: made, Kind.LOGITS: logits}


def measured(inputs: dict[Kind, Path], gguf: Path, scratch: Path) -> Divergence:
    """A file against the healthy model's logits."""
    how = Measuring(find_tools(), scratch, threading.Event(), 512, CHUNKS, lambda _: None)
    return compare_with_baseline(how, gguf, inputs[Kind.LOGITS] / "logits.kld")


def asked(inputs: dict[Kind, Path], gguf: Path) -> Answered:
    """A file's answers to the held-out prompts."""
    rows = read_held_out(inputs[Kind.DATASET] / "eval.parquet", len(COUNTRIES))
    return ask(Asking(find_tools(), read_gguf(gguf), rows, 40, 7, threading.Event(), lambda _: None))


def gates(figures: dict[str, Any]) -> dict[str, Verdict]:
    return {result.name: result.verdict for result in judge(Gates(), figures)}


def test_a_matrix_that_lacks_entries_makes_no_file(inputs: dict[Kind, Path], tmp_path: Path) -> None:
    """llama-quantize makes the file all the same and mentions it in its log (P54)."""
    healthy = inputs[Kind.IMATRIX] / "imatrix.gguf"
    names = sorted(read_importance(healthy).entries)
    (tmp_path / "imatrix").mkdir()
    with_entries(healthy, tmp_path / "imatrix" / "imatrix.gguf", names[:-3])

    with pytest.raises(StageFailure, match=r"lacks 3 tensors of the model, blk\.\d+") as failure:
        quantize.run(quantize_work(inputs | {Kind.IMATRIX: tmp_path / "imatrix"}, tmp_path / "scratch", "Q4_K_M"))

    assert failure.value.failure == FailureClass.CONVERSION_INVALID
    assert not (tmp_path / "scratch" / "quantized" / "model.gguf").exists()


def test_a_matrix_of_other_shapes_makes_no_file(inputs: dict[Kind, Path], tmp_path: Path) -> None:
    """A matrix of another model of the same architecture."""
    healthy = inputs[Kind.IMATRIX] / "imatrix.gguf"
    (tmp_path / "imatrix").mkdir()
    names = sorted(read_importance(healthy).entries)
    with_entries(healthy, tmp_path / "imatrix" / "imatrix.gguf", names, columns=512)

    with pytest.raises(StageFailure, match=r"imatrix size 512 is different from tensor size 576|of another model"):
        quantize.run(quantize_work(inputs | {Kind.IMATRIX: tmp_path / "imatrix"}, tmp_path / "scratch", "Q4_K_M"))


def test_a_low_bit_type_without_a_matrix_is_the_manifests_fault(inputs: dict[Kind, Path], tmp_path: Path) -> None:
    """The hint names the field (P56)."""
    given = {kind: folder for kind, folder in inputs.items() if kind is not Kind.IMATRIX}

    with pytest.raises(StageFailure, match="IQ2_XXS cannot be made without") as failure:
        quantize.run(quantize_work(given, tmp_path, "IQ2_XXS"))

    assert failure.value.failure == FailureClass.SPEC_INVALID
    assert "imatrix.mode" in failure.value.hint


def test_a_file_worsened_to_three_times_the_threshold_fails_its_gates(inputs: dict[Kind, Path], tmp_path: Path) -> None:
    """Noise on all weights: the rise is measured with its error, and both gates of perplexity say no."""
    worse = with_noise(smollm2_gguf(), tmp_path / "worse.gguf", 0.22)

    found = measured(inputs, worse, tmp_path)

    assert found.increase.value > 3 * Gates().max_perplexity_increase
    assert found.increase.value > 3 * found.increase.error
    verdicts = gates(found.to_json_dict())
    assert verdicts["maxPerplexityIncrease"] == verdicts["maxLogPerplexityIncrease"] == Verdict.FAILED


def test_the_healthy_file_is_its_own_baseline(inputs: dict[Kind, Path], tmp_path: Path) -> None:
    """The control of the controls: no rise, no divergence but that of 16-bit logits."""
    found = measured(inputs, smollm2_gguf(), tmp_path)

    assert abs(found.increase.value) < 0.02
    assert found.mean.value < 0.001
    assert found.same_top.value > 0.99


@pytest.mark.parametrize(
    ("tensor", "least"),
    [
        pytest.param("blk.0.ffn_down.weight", 1.0, id="one that much hangs on"),
        # Q4_K_M of the same model diverges by 0.03.
        pytest.param("blk.12.ffn_down.weight", 0.06, id="one that little hangs on"),
    ],
)
def test_a_zeroed_tensor_diverges_far(inputs: dict[Kind, Path], tmp_path: Path, tensor: str, least: float) -> None:
    """One of 272 tensors is enough to fail the gates."""
    broken = zero_tensor(smollm2_gguf(), tmp_path / "broken.gguf", tensor)

    found = measured(inputs, broken, tmp_path)

    assert found.mean.value > least
    assert gates(found.to_json_dict())["maxPerplexityIncrease"] == Verdict.FAILED


def test_a_file_of_one_type_named_as_another_is_read_back(tmp_path: Path) -> None:
    """Q8_0 where Q4_K_M was asked for, as it is and renamed (P82)."""
    source = smollm2_gguf()
    tools, never = find_tools(), threading.Event()
    how = Quantizing(tools, source, QuantizationType.Q8_0, None, tmp_path, never)
    write_quantized(how, tmp_path / "q8.gguf")
    wanted = replace(how, type=QuantizationType.Q4_K_M)
    plan = plan_quantization(wanted)
    renamed = set_scalar(tmp_path / "q8.gguf", tmp_path / "renamed.gguf", "general.file_type", 15)

    as_it_is = mistakes(read_gguf(tmp_path / "q8.gguf"), read_gguf(source), wanted.type, plan)
    with_another_name = mistakes(read_gguf(renamed), read_gguf(source), wanted.type, plan)

    assert "general.file_type is 7, Q4_K_M is 15" in as_it_is
    assert ["tensors are not of the planned type" in each for each in with_another_name] == [True]


def test_a_model_that_never_stops_is_noticed(inputs: dict[Kind, Path], tmp_path: Path) -> None:
    """Its end of turn is a token like any other: no answer ends, markup leaks, and the gate says no."""
    healthy = asked(inputs, smollm2_gguf()).figures
    renamed = with_text(smollm2_gguf(), tmp_path / "renamed.gguf", b"<|im_end|>", b"<|im_xnd|>")
    endless = set_scalar(renamed, tmp_path / "endless.gguf", "tokenizer.ggml.eos_token_id", 0)

    figures = asked(inputs, endless).figures

    assert gates({"chat": dict(healthy)})["minAnswersClean"] == Verdict.PASSED
    assert (healthy["clean"], healthy["leaks"]) == (len(COUNTRIES), 0)
    assert gates({"chat": dict(figures)})["minAnswersClean"] == Verdict.FAILED
    assert (figures["stopped"], figures["clean"]) == (0, 0)
    assert "<|im_xnd|>" in figures["leaked"]


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(None, id="removed: the server falls back to another"),
        pytest.param(
            "{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}", id="another family's"
        ),
    ],
)
def test_another_template_is_not_talked_with(inputs: dict[Kind, Path], tmp_path: Path, template: str | None) -> None:
    """The prompts that the server makes are not those that were trained with (P42)."""
    swapped = set_template(smollm2_gguf(), tmp_path / "swapped.gguf", template)

    with pytest.raises(StageFailure, match="does not answer from the template it was trained with"):
        asked(inputs, swapped)


def test_prompts_of_a_template_that_writes_today_are_compared_as_of_the_fixed_day(
    inputs: dict[Kind, Path], tmp_path: Path
) -> None:
    """P10: the prompts that were trained with have the fixed day; those of another day are another template's."""
    right = smollm2_gguf()
    clock = "{{ strftime_now('%A %d.%m.%Y') }}: "
    dated = set_template(right, tmp_path / "dated.gguf", clock + str(read_gguf(right).metadata[TEMPLATE_KEY]))
    rows = read_held_out(inputs[Kind.DATASET] / "eval.parquet", 2)
    with open_model(find_tools(), right) as model:
        wanted, other = (
            [replace(row, prompt_ids=(*model.tokenize(f"{day}: ", add_special=False), *row.prompt_ids)) for row in rows]
            for day in ("Friday 26.07.2024", "Friday 27.07.2024")
        )

    def asked_for(prepared: list[HeldOut]) -> Answered:
        return ask(Asking(find_tools(), read_gguf(dated), prepared, 4, 7, threading.Event(), lambda _: None))

    assert asked_for(wanted).figures["templateEqual"] == 1
    with pytest.raises(StageFailure, match="does not answer from the template it was trained with"):
        asked_for(other)


def test_a_torn_file_is_not_served(tmp_path: Path) -> None:
    """llama-server says why, and the failure repeats it."""
    torn = truncate(smollm2_gguf(), tmp_path / "torn.gguf")

    with (
        pytest.raises(StageFailure, match="does not load torn") as failure,
        serve(find_tools(), torn, Serving(256, 1), threading.Event()),
    ):
        pass

    assert failure.value.failure == FailureClass.CONVERSION_INVALID


def test_torn_logits_name_the_artifact_that_is_to_be_made_again(inputs: dict[Kind, Path], tmp_path: Path) -> None:
    """llama-perplexity would exit with 0 (P64); the runner makes the baseline again."""
    logits = shutil.copytree(inputs[Kind.LOGITS], tmp_path / "logits")
    with (logits / "logits.kld").open("r+b") as file:
        file.truncate(1_000_000)
    given = {Kind.LOGITS: logits, **{kind: inputs[kind] for kind in (Kind.GGUF, Kind.DATASET)}}

    with pytest.raises(StageFailure) as failure:
        quantize.run(quantize_work(given, tmp_path / "scratch", "Q8_0", answers(2)))

    assert failure.value.failure == FailureClass.ARTIFACT_CORRUPT
    assert failure.value.artifact == (Kind.LOGITS.value, "key-of-logits")


def test_a_full_disk_is_named_as_such(tmp_path: Path) -> None:
    """/dev/full takes nothing: the tool's 'iostream error' becomes DiskFull (P62)."""
    how = Quantizing(find_tools(), smollm2_gguf(), QuantizationType.Q8_0, None, tmp_path, threading.Event())

    with pytest.raises(StageFailure) as failure:
        write_quantized(how, Path("/dev/full"))

    assert failure.value.failure == FailureClass.DISK_FULL


def test_an_interrupted_answering_leaves_no_server(inputs: dict[Kind, Path]) -> None:
    """The server is gone as soon as the stage is asked to stop, and the failure is Interrupted."""
    rows = read_held_out(inputs[Kind.DATASET] / "eval.parquet", len(COUNTRIES))
    interrupted = threading.Event()
    told = Posts()

    def stop_at_first_answer(fraction: float) -> None:
        told(fraction)
        interrupted.set()

    asking = Asking(find_tools(), read_gguf(smollm2_gguf()), rows, 256, 7, interrupted, stop_at_first_answer)
    with pytest.raises(StageFailure) as failure:
        ask(asking)

    assert failure.value.failure == FailureClass.INTERRUPTED
    assert told.seen
