"""The stage prepare on the real model: what it writes is what the contract says; what is wrong is found and named."""

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.preparing import EXAMPLES, chats, prepare_settings, prepare_work, say, smollm2, write_rows
from tunesmith_api import families
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.settings import DatasetSettings, PrepareSettings
from tunesmith_api.stages import Kind
from tunesmith_trainer.conversion_proof import compare_vocabulary
from tunesmith_trainer.data.rows import MAX_ROW_BYTES
from tunesmith_trainer.engines.targets import check_folder_targets
from tunesmith_trainer.prepare import load_base, prepare_rows, run
from tunesmith_trainer.tokenizer import PROBES, Tokenizer, load_tokenizer

PARTS = ("train", "eval", "gate")
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(smollm2(), families.load("smollm2"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's dataset, prepared."""
    return _prepared(tmp_path_factory.mktemp("prepare"))


def _rows_of(base: Path, scratch: Path, settings: PrepareSettings) -> tuple[Path, dict[str, Any]]:
    """What prepare makes of ``scratch/sources`` and its figures, without the proof of conversion, which takes long."""
    folder = scratch / "dataset"
    folder.mkdir(parents=True)
    return folder, prepare_rows(prepare_work(base, scratch, settings), settings, load_base(base, settings), folder)


def _prepared(scratch: Path) -> Path:
    (scratch / "sources" / "0").mkdir(parents=True)
    shutil.copyfile(EXAMPLES / "data" / "street-reports.jsonl", scratch / "sources" / "0" / "street-reports.jsonl")
    outcome = run(prepare_work(smollm2(), scratch, prepare_settings()))
    return outcome.outputs[Kind.DATASET].folder


def _rows(folder: Path, part: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / f"{part}.parquet").to_pylist()


def _json(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_the_parts_have_the_columns_of_the_contract_and_share_no_prompt(prepared: Path) -> None:
    """Every row of the source is in exactly one part."""
    schema = pq.read_schema(prepared / "train.parquet")
    assert {name: str(schema.field(name).type) for name in schema.names} == {
        "input_ids": "list<element: int32>",
        "mask": "list<element: uint8>",
        "messages": "string",
        "dataset": "int16",
        "line": "int64",
        "prompt_sha": "string",
    }
    rows = {part: _rows(prepared, part) for part in PARTS}
    prompts = [{row["prompt_sha"] for row in rows[part]} for part in PARTS]
    lines = sorted(row["line"] for part in PARTS for row in rows[part])

    assert sum(map(len, prompts)) == len(set.union(*prompts))
    assert lines == list(range(1, 466))
    assert [len(rows[part]) for part in PARTS] == [396, 46, 23]


def test_exactly_the_answers_are_trained(prepared: Path, tokenizer: Tokenizer) -> None:
    """P1 to P3 on every row: the trained tokens are the answer and its end, behind one rendered prompt."""
    for part in PARTS:
        for row in _rows(prepared, part):
            messages = json.loads(row["messages"])
            trained = [i for i, on in zip(row["input_ids"], row["mask"], strict=True) if on]
            assert tokenizer.inner.decode(trained) == messages[-1]["content"] + "<|im_end|>"
            assert tokenizer.inner.decode(row["input_ids"]) == tokenizer.render(messages, prompting=False)


def test_figures_agree_with_the_files(prepared: Path, tokenizer: Tokenizer) -> None:
    """What later stages read in figures.json is what the files hold."""
    figures = _json(prepared, "figures.json")
    rows = {part: _rows(prepared, part) for part in PARTS}
    tokens = figures["tokens"]

    assert {part: sum(len(row["input_ids"]) for row in rows[part]) for part in PARTS} == {p: tokens[p] for p in PARTS}
    assert tokens["supervised"] == sum(sum(row["mask"]) for row in rows["train"])
    assert figures["maxLength"] == max(len(row["input_ids"]) for part in PARTS for row in rows[part])
    assert (figures["chat"], figures["endOfTurn"], figures["bosId"]) == (True, ["<|im_end|>"], None)
    assert figures["systemPrompt"] == SYSTEM
    assert figures["padId"] == tokenizer.inner.get_vocab()["<|endoftext|>"]
    assert figures["vocabulary"]["preTokenizer"] == "smollm"
    for name in ("gate", "calibration", "forgetting"):
        text = (prepared / f"{name}.txt").read_text(encoding="utf-8")
        counted = tokens.get(f"{name}Own", 0) + tokens[f"{name}General"]
        assert abs(tokenizer.count(text) - counted) <= 0.02 * counted


def test_the_gate_text_is_plain_and_long_enough(prepared: Path, tokenizer: Tokenizer) -> None:
    """P63: llama-perplexity reads markup as text; 40 windows stand out of the noise (P66)."""
    text = (prepared / "gate.txt").read_text(encoding="utf-8")
    answers = [json.loads(row["messages"])[-1]["content"] for row in _rows(prepared, "gate")]

    assert "<|" not in text
    assert all(answer in text for answer in answers)
    assert tokenizer.count(text) >= 40 * 512


def test_every_beginning_of_the_calibration_text_has_both_kinds(prepared: Path, tokenizer: Tokenizer) -> None:
    """P53, P55: rendered train rows with markup, and general text, in step; never a held-out row."""
    text = (prepared / "calibration.txt").read_text(encoding="utf-8")
    figures = _json(prepared, "figures.json")["tokens"]
    share = figures["calibrationOwn"] / (figures["calibrationOwn"] + figures["calibrationGeneral"])
    rendered = len(SYSTEM) * text.count(SYSTEM)

    for part in (0.1, 0.25, 0.5):
        beginning = text[: int(part * len(text))]
        assert abs(beginning.count(SYSTEM) * len(SYSTEM) / len(beginning) - rendered / len(text)) < 0.25 * share
    held = [json.loads(row["messages"])[0]["content"] for part in ("eval", "gate") for row in _rows(prepared, part)]
    assert not [prompt for prompt in held if prompt in text]
    assert tokenizer.count(text) >= 80 * 512


def test_probes_are_what_the_tokenizer_makes_of_them(prepared: Path, tokenizer: Tokenizer) -> None:
    """About forty conversations, markup, systems, several turns and held-out rows among them."""
    found = _json(prepared, "probes.json")

    assert len(found) >= 35
    for probe in found:
        assert probe["text"] == tokenizer.render(probe["messages"], prompting=probe["add_generation_prompt"])
        assert probe["ids"] == tokenizer.inner.backend_tokenizer.encode(probe["text"], add_special_tokens=False).ids
    assert {True, False} == {probe["add_generation_prompt"] for probe in found}
    assert {"system"} < {turn["role"] for probe in found for turn in probe["messages"]}
    assert max(len(probe["messages"]) for probe in found) >= 6


def test_the_report_counts_every_row_and_shows_what_is_trained(prepared: Path) -> None:
    """Three examples with the trained part marked; rows by what became of them."""
    report = _json(prepared, "report.json")
    rows = report["rows"]

    kept = sum(rows[name] for name in (*PARTS, "invalid", "duplicates", "leftOut", "overlap", "tooLong"))
    assert rows["read"] == kept == 465
    assert len(report["examples"]) == 3
    parts = report["examples"][0]["parts"]
    assert [part["trained"] for part in parts] == [False, True, False]
    assert parts[1]["text"].startswith("Department: ")
    assert report["lengths"]["p50"] <= report["lengths"]["p99"] <= report["lengths"]["max"]


def test_the_same_rows_in_another_order_and_format_are_split_alike(prepared: Path, tmp_path: Path) -> None:
    """A second run is byte-identical; Parquet in reverse order holds out the same prompts."""
    source = tmp_path / "again" / "sources" / "0" / "street-reports.jsonl"
    source.parent.mkdir(parents=True)
    shutil.copyfile(EXAMPLES / "data" / "street-reports.jsonl", source)
    again, _ = _rows_of(smollm2(), tmp_path / "again", prepare_settings())
    for path in again.iterdir():
        assert path.read_bytes() == (prepared / path.name).read_bytes(), path.name

    source = tmp_path / "reversed" / "sources" / "0" / "rows.parquet"
    source.parent.mkdir(parents=True)
    lines = (EXAMPLES / "data" / "street-reports.jsonl").read_text(encoding="utf-8").splitlines()
    pq.write_table(pa.Table.from_pylist([json.loads(line) for line in reversed(lines)]), source)
    other, _ = _rows_of(smollm2(), tmp_path / "reversed", prepare_settings())
    assert {row["prompt_sha"] for row in _rows(prepared, "eval")} == {row["prompt_sha"] for row in _rows(other, "eval")}


def test_long_rows_are_dropped_cut_by_turns_or_refused(tmp_path: Path) -> None:
    """P5: no answer is ever cut; what becomes of long rows is counted and named."""
    long = [{"messages": list(say(f"{n}?", "Short.", "More?", "word " * 300))} for n in range(10)]
    rows = [*chats(60), *long]
    for policy, expected in (("Drop", (60, 0)), ("TruncateTurns", (70, 10))):
        scratch = tmp_path / policy
        write_rows(scratch / "sources" / "0", rows)
        told = prepare_settings(on_too_long=policy, max_sequence_length=128)
        folder, _ = _rows_of(smollm2(), scratch, told)
        counted = _json(folder, "report.json")
        used = [row for part in PARTS for row in _rows(folder, part)]
        assert expected == (len(used), counted["rows"]["truncated"])
        assert max(len(row["input_ids"]) for row in used) <= 128
        assert [place["line"] for place in counted["tooLong"][:2]] == [61, 62]
        assert all(row["mask"][-2] for row in used)

    scratch = tmp_path / "Fail"
    write_rows(scratch / "sources" / "0", rows)
    told = prepare_settings(on_too_long="Fail", max_sequence_length=128)
    with pytest.raises(StageFailure, match=r"10 of 70 rows have more than 128 tokens.*line 61"):
        _rows_of(smollm2(), scratch, told)


def test_plain_text_needs_no_template(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """All of a text is trained, and its end; long ones become consecutive rows with the end on the last."""
    base = _copied(tmp_path / "base")
    _edit(base / "tokenizer_config.json", lambda config: config.pop("chat_template"))
    texts = [{"text": f"Chapter {n}. " + "Once upon a time. " * (40 if n == 7 else 3)} for n in range(60)]
    write_rows(tmp_path / "sources" / "0", texts)
    told = prepare_settings(on_too_long="TruncateTurns", max_sequence_length=64)

    folder, figures = _rows_of(base, tmp_path, told)

    rows = [row for part in PARTS for row in _rows(folder, part)]
    long = [row for row in rows if row["line"] == 8]
    probes = _json(folder, "probes.json")
    assert (figures["chat"], figures["eosId"]) == (False, tokenizer.inner.convert_tokens_to_ids("<|im_end|>"))
    assert {"messages": []}.items() <= probes[0].items()
    assert [tokenizer.inner.decode(probe["ids"]) for probe in probes[:2]] == list(PROBES[:2])
    assert all(probe["text"].startswith("Chapter") for probe in probes[len(PROBES) :])
    assert len(probes) > len(PROBES)
    assert all(all(row["mask"]) for row in rows)
    assert tokenizer.inner.decode([i for row in long for i in row["input_ids"]]) == texts[7]["text"] + "<|im_end|>"
    assert json.loads(rows[0]["messages"]).keys() == {"text"}


def test_an_evaluation_dataset_is_all_that_is_held_out(tmp_path: Path) -> None:
    """Its rows, and no others, are the eval part; what the training rows share with it is not trained."""
    held = chats(12, start=1_000)
    write_rows(tmp_path / "sources" / "0", [*chats(60), *held[:3]])
    write_rows(tmp_path / "sources" / "evaluation", held)

    folder, figures = _rows_of(smollm2(), tmp_path, prepare_settings(evaluation=DatasetSettings(digest="sha256:e")))

    held_out, trained = _rows(folder, "eval"), _rows(folder, "train")
    assert {(row["dataset"], row["line"]) for row in held_out} == {(-1, line) for line in range(1, 13)}
    assert not {row["prompt_sha"] for row in held_out} & {row["prompt_sha"] for row in trained}
    assert figures["evalRows"] == 12
    assert {row["dataset"] for row in trained} == {0}


def test_conversations_need_a_template(tmp_path: Path) -> None:
    """A base model without template and a chat dataset do not fit together."""
    base = _copied(tmp_path / "base")
    _edit(base / "tokenizer_config.json", lambda config: config.pop("chat_template"))
    write_rows(tmp_path / "sources" / "0", chats(60))

    with pytest.raises(StageFailure, match="no chat template") as caught:
        run(prepare_work(base, tmp_path, prepare_settings()))

    assert caught.value.failure is FailureClass.MODEL_INVALID
    assert "Text" in caught.value.hint


def test_an_interruption_ends_the_stage_at_once(tmp_path: Path) -> None:
    """Nothing runs on after SIGTERM, the converter neither."""
    interrupted = threading.Event()
    interrupted.set()
    write_rows(tmp_path / "sources" / "0", chats(60))

    with pytest.raises(StageFailure) as caught:
        run(prepare_work(smollm2(), tmp_path, prepare_settings(), interrupted=interrupted))

    assert caught.value.failure is FailureClass.INTERRUPTED


def _copied(folder: Path) -> Path:
    """SmolLM2's folder, with its weights linked."""
    folder.mkdir(parents=True)
    for path in smollm2().iterdir():
        if path.suffix == ".safetensors":
            (folder / path.name).symlink_to(path)
        elif path.is_file():
            shutil.copyfile(path, folder / path.name)
    return folder


def _edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def _pickle_only(base: Path) -> None:
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def _more_tokens(base: Path) -> None:
    _edit(base / "config.json", lambda config: config.update(vocab_size=49_000))


def _fewer_rows(base: Path) -> None:
    _edit(base / "config.json", lambda config: config.update(vocab_size=49_408))


def _added_token(base: Path) -> None:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    token = {"id": 49_152, "content": "<new>", "special": True} | flags
    _edit(base / "tokenizer.json", lambda content: content["added_tokens"].append(token))


def _broken_weights(base: Path) -> None:
    (base / "model.safetensors").unlink()
    (base / "model.safetensors").write_bytes(b"\x10\x00\x00")


BROKEN_MODELS: list[tuple[str, Callable[[Path], object], FailureClass, str]] = [
    ("pickle only", _pickle_only, FailureClass.MODEL_INVALID, "no \\*.safetensors"),
    ("no config", lambda base: (base / "config.json").unlink(), FailureClass.MODEL_INVALID, "no config.json"),
    ("code file", lambda base: (base / "modeling.py").write_text(""), FailureClass.MODEL_INVALID, "code of its own"),
    (
        "auto_map",
        lambda base: _edit(base / "tokenizer_config.json", lambda c: c.update(auto_map={"AutoTokenizer": "a.B"})),
        FailureClass.MODEL_INVALID,
        "code of its own",
    ),
    (
        "quantized (P43)",
        lambda base: _edit(base / "config.json", lambda c: c.update(quantization_config={"quant_method": "gptq"})),
        FailureClass.MODEL_INVALID,
        r"quantized already \(gptq\)",
    ),
    ("vocab_size below the rows (P40)", _more_tokens, FailureClass.MODEL_INVALID, "49152 rows in"),
    ("vocab_size above the rows (P40)", _fewer_rows, FailureClass.MODEL_INVALID, "49152 rows in"),
    ("added token without a row (P29)", _added_token, FailureClass.MODEL_INVALID, "49153 tokens in its tokenizer"),
    (
        "with a vision tower (P51)",
        lambda base: _edit(base / "config.json", lambda c: c.update(vision_config={"hidden_size": 8})),
        FailureClass.CONVERSION_UNSUPPORTED,
        "a part for vision",
    ),
    ("weights cut off", _broken_weights, FailureClass.MODEL_INVALID, "damaged model.safetensors"),
    (
        "stray tokenizer.model (P39)",
        lambda base: (base / "tokenizer.model").write_bytes(b"x"),
        FailureClass.CONVERSION_UNSUPPORTED,
        "has tokenizer.model",
    ),
    (
        "no tokenizer.json (P39)",
        lambda base: (base / "tokenizer.json").unlink(),
        FailureClass.CONVERSION_UNSUPPORTED,
        "lacks tokenizer.json",
    ),
]


@pytest.mark.parametrize(
    ("change", "failure", "said"), [c[1:] for c in BROKEN_MODELS], ids=[c[0] for c in BROKEN_MODELS]
)
def test_a_model_that_cannot_be_used_is_refused_before_anything_of_it_is_loaded(
    tmp_path: Path, change: Callable[[Path], object], failure: FailureClass, said: str
) -> None:
    """Each fault has its class, says what is wrong, and gives a hint."""
    base = _copied(tmp_path / "base")
    change(base)
    write_rows(tmp_path / "sources" / "0", chats(60))

    with pytest.raises(StageFailure, match=said) as caught:
        run(prepare_work(base, tmp_path, prepare_settings()))

    assert caught.value.failure is failure
    assert caught.value.hint


def test_layers_that_the_model_has_not_are_told_before_training_takes_a_gpu(tmp_path: Path) -> None:
    """What training will ask of the model comes with the call, and enters no key of the dataset."""
    work = prepare_work(smollm2(), tmp_path, prepare_settings())
    request = work.request.model_copy(update={"execution": {"loraTargets": ["q_proj", "qkv_proj"]}})

    with pytest.raises(StageFailure, match="no layer of this model is called qkv_proj; it has down_proj") as caught:
        run(replace(work, request=request))

    assert caught.value.failure is FailureClass.SPEC_INVALID


def test_the_usual_layers_are_not_those_of_every_family(tmp_path: Path) -> None:
    """Phi-3 joins them; to know it takes its description, not its weights."""
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "vocab_size": 99, "pad_token_id": 0} | sizes
    (tmp_path / "config.json").write_text(json.dumps(config))

    with pytest.raises(StageFailure, match="called q_proj, k_proj, v_proj, gate_proj, up_proj; it has ") as caught:
        check_folder_targets(tmp_path, families.load("generic").lora_targets)

    assert caught.value.message.endswith("it has down_proj, gate_up_proj, lm_head, o_proj, qkv_proj")
    assert "targetModules" in caught.value.hint
    check_folder_targets(tmp_path, ("qkv_proj", "o_proj"))


def test_a_model_that_transformers_does_not_know_is_told(tmp_path: Path) -> None:
    """Training could not load it either."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "unheard-of"}))

    with pytest.raises(StageFailure, match="transformers cannot load the model") as caught:
        check_folder_targets(tmp_path, ("q_proj",))

    assert caught.value.failure is FailureClass.MODEL_INVALID


def _unknown_pre_tokenizer(base: Path) -> None:
    pattern = {"type": "Split", "pattern": {"Regex": "[aeiou]+"}, "behavior": "Isolated", "invert": False}
    _edit(base / "tokenizer.json", lambda c: c["pre_tokenizer"]["pretokenizers"].insert(0, pattern))


def _second_template(base: Path) -> None:
    template = json.loads((base / "tokenizer_config.json").read_text())["chat_template"]
    (base / "chat_template.jinja").write_text(template.replace("helpful", "useful"))


@pytest.mark.parametrize(
    ("change", "said"),
    [(_unknown_pre_tokenizer, "pre-tokenizer"), (_second_template, "another chat template")],
    ids=["unknown pre-tokenizer (P38)", "two templates (P41)"],
)
def test_what_llama_cpp_cannot_convert_is_found_before_training(
    tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    """The vocabulary is really converted, and read back."""
    base = _copied(tmp_path / "base")
    change(base)
    write_rows(tmp_path / "sources" / "0", chats(60))

    with pytest.raises(StageFailure, match=said) as caught:
        run(prepare_work(base, tmp_path, prepare_settings()))

    assert caught.value.failure is FailureClass.CONVERSION_UNSUPPORTED


def test_an_end_at_which_llama_cpp_would_not_stop_is_refused(tokenizer: Tokenizer) -> None:
    """P46: an answer's end must be the GGUF's own, or one that llama.cpp knows by its name."""
    metadata = {"tokenizer.chat_template": tokenizer.template, "tokenizer.ggml.eos_token_id": 0}
    odd = tokenizer.inner.get_vocab()["<repo_name>"]

    assert compare_vocabulary(metadata, tokenizer, [tokenizer.ends["<|im_end|>"]])["eosId"] == 0
    assert compare_vocabulary(metadata | {"tokenizer.ggml.eot_token_id": odd}, tokenizer, [odd])
    with pytest.raises(StageFailure, match="answers end with '<repo_name>'"):
        compare_vocabulary(metadata, tokenizer, [odd])


BROKEN_DATA: list[tuple[str, list[object], dict[str, Any], FailureClass, str]] = [
    ("broken line", [*chats(50), "{broken"], {}, FailureClass.DATASET_INVALID, "1 of 51 rows .*line 51: is not JSON"),
    (
        "mis-roled",
        [*chats(50), {"messages": [{"role": "robot", "content": "x"}]}],
        {},
        FailureClass.DATASET_INVALID,
        "line 51: turn 1 is of the role 'robot'",
    ),
    (
        "huge row",
        [*chats(50), json.dumps({"text": "x" * MAX_ROW_BYTES})],
        {},
        FailureClass.DATASET_INVALID,
        "1 of 51 rows .*rows.jsonl, line 51: longer than 8 MiB",
    ),
    ("empty", [], {}, FailureClass.DATASET_INVALID, "file rows.jsonl is empty"),
    ("too few", list(chats(20)), {}, FailureClass.DATASET_TOO_SMALL, "20 usable rows"),
    ("too long for the model", list(chats(50)), {"max_sequence_length": 9000}, FailureClass.SPEC_INVALID, "reads 8192"),
    (
        "named column absent",
        [{"q": "a", "a": "b"}] * 40,
        {
            "datasets": (
                DatasetSettings.model_validate({"digest": "d", "columns": {"prompt": "frage", "completion": "a"}}),
            )
        },
        FailureClass.DATASET_INVALID,
        "no column 'frage'.*its columns are: 'a', 'q'",
    ),
]


@pytest.mark.parametrize(
    ("rows", "changes", "failure", "said"), [case[1:] for case in BROKEN_DATA], ids=[case[0] for case in BROKEN_DATA]
)
def test_a_dataset_that_cannot_be_used_is_refused_with_its_place(
    tmp_path: Path, rows: list[object], changes: dict[str, Any], failure: FailureClass, said: str
) -> None:
    """Class, file, line, reason and hint."""
    write_rows(tmp_path / "sources" / "0", rows)

    with pytest.raises(StageFailure, match=said) as caught:
        run(prepare_work(smollm2(), tmp_path, prepare_settings(**changes)))

    assert caught.value.failure is failure
    assert caught.value.hint


def test_invalid_rows_are_dropped_and_named_where_that_is_asked_for(tmp_path: Path) -> None:
    """With Drop the good rows go on, and the report names the others by their lines."""
    rows = [*chats(30), "{broken", {"messages": []}, *chats(30, start=30)]
    write_rows(tmp_path / "sources" / "0", rows)

    told = prepare_settings(on_invalid_rows="Drop", system_prompt={"mode": "Text", "text": "Be exact."})
    folder, _ = _rows_of(smollm2(), tmp_path, told)

    report = _json(folder, "report.json")
    assert [entry["line"] for entry in report["invalid"]] == [31, 32]
    assert report["rows"]["invalid"] == 2
    assert report["systemPrompt"] == "Be exact."
    assert {"Be exact."} == {json.loads(row["messages"])[0]["content"] for row in _rows(folder, "train")}
