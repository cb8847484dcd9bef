"""Masks on real templates of the common families, and on a real vocabulary with their tokens added."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from support.preparing import say, smollm2
from tunesmith.llama_cpp.source import fetch_source
from tunesmith_api import families
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.data.conversations import Conversation
from tunesmith_trainer.data.gather import merged_system
from tunesmith_trainer.data.mask import check_ends, mask_tokens, render_answers
from tunesmith_trainer.data.system import Systems
from tunesmith_trainer.tokenizer import PROBES, Tokenizer, choose_pad, load_tokenizer

GENERIC = families.load(families.GENERIC)
# Template file, its special tokens, its beginning-of-text token and its end-of-text token.
FAMILIES = {
    "llama-3.2": (
        "meta-llama-Llama-3.2-3B-Instruct.jinja",
        ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|finetune_right_pad_id|>"],
        "<|begin_of_text|>",
        "<|eot_id|>",
    ),
    "qwen2.5": ("Qwen-Qwen2.5-7B-Instruct.jinja", [], None, "<|im_end|>"),
    "qwen3": ("Qwen-Qwen3-0.6B.jinja", ["<think>", "</think>"], None, "<|im_end|>"),
    "gemma-2": ("google-gemma-2-2b-it.jinja", ["<start_of_turn>", "<end_of_turn>", "<pad>"], "<bos>", "<eos>"),
    "phi-3.5": (
        "microsoft-Phi-3.5-mini-instruct.jinja",
        ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
        None,
        "<|endoftext|>",
    ),
    "mistral": ("mistralai-Mistral-Nemo-Instruct-2407.jinja", ["[INST]", "[/INST]"], "<s>", "</s>"),
}


def _model(folder: Path, template: str, special: list[str], bos: str | None, eos: str) -> Path:
    """SmolLM2's vocabulary with a family's tokens and template; BOS in front where the family has one."""
    source = smollm2()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "config.json", folder / "config.json")
    content = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    known = {token["content"]: token["id"] for token in content["added_tokens"]}
    for name in [*special, *([bos] if bos else []), eos]:
        if name not in known:
            known[name] = max(len(content["model"]["vocab"]), *(known[n] + 1 for n in known))
            flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            content["added_tokens"].append({"id": known[name], "content": name, "special": True} | flags)
    if bos:
        begin, text = {"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [begin, text],
            "pair": [begin, text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [known[bos]], "tokens": [bos]}},
        }
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | ({"bos_token": bos} if bos else {})))
    return folder


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Tokenizer]:
    """One of the families' tokenizers."""
    template, special, bos, eos = FAMILIES[request.param]
    text = (fetch_source() / "vendor/llama.cpp/models/templates" / template).read_text(encoding="utf-8")
    folder = _model(tmp_path_factory.mktemp(request.param), text, special, bos, eos)
    return request.param, load_tokenizer(folder, GENERIC)


@pytest.fixture(scope="module")
def real() -> Tokenizer:
    return load_tokenizer(smollm2(), families.load("smollm2"))


def _trained(conversation: Conversation, tokenizer: Tokenizer) -> list[str]:
    """What is trained of a conversation, decoded; checked for its ends."""
    found = []
    for rendered in render_answers(conversation, tokenizer.render, tokenizer.ends):
        encoding = tokenizer.encode([rendered.text])[0]
        mask = mask_tokens(encoding.offsets, rendered.spans).mask
        check_ends(encoding.ids, mask, tokenizer.ends.values())
        found.append(tokenizer.inner.decode([i for i, on in zip(encoding.ids, mask, strict=True) if on]))
    return found


ANSWER_END = {
    "llama-3.2": "<|eot_id|>",
    "qwen2.5": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "gemma-2": "<end_of_turn>",
    "phi-3.5": "<|end|>",
    "mistral": "</s>",
}


def test_the_answer_and_its_end_are_trained_in_every_family(family: tuple[str, Tokenizer]) -> None:
    """P2, P3: one method for all templates; Llama 3.2's and Gemma's among them."""
    name, tokenizer = family

    trained = "".join(_trained(say("What is 12 + 30?", "It is 42.", "And twice?", "84, twice 42."), tokenizer))

    assert trained.replace("<think>\n\n</think>\n\n", "").replace(" It", "It").replace(" 84", "84") == (
        f"It is 42.{ANSWER_END[name]}84, twice 42.{ANSWER_END[name]}"
    )


def test_exactly_one_beginning_of_text_is_in_front_where_the_tokenizer_has_one(family: tuple[str, Tokenizer]) -> None:
    """P1: neither doubled where the template writes it too, nor lost where it does not."""
    _, tokenizer = family
    text = tokenizer.render(say("Hi", "Ho"), prompting=False)

    ids = tokenizer.with_bos(tokenizer.encode([text])[0].ids)

    if tokenizer.adds_bos:
        assert ids[:1] == [tokenizer.bos_id]
        assert ids.count(tokenizer.bos_id) == 1
    else:
        assert ids[0] in tokenizer.encode([text[:20]])[0].ids


def test_a_refused_system_message_goes_in_front_of_the_question(family: tuple[str, Tokenizer]) -> None:
    """P9: Gemma 2 refuses system messages, Mistral's forgets them once answered; nothing of them is lost."""
    name, tokenizer = family
    systems = Systems.of(tokenizer)
    conversation = say("Question", "Answer", system="Rule 17")

    assert systems.merges == (name in {"gemma-2", "mistral"})
    sent = merged_system(conversation) if systems.merges else conversation
    assert not isinstance(sent, str)
    assert "Rule 17" in tokenizer.render(sent, prompting=False)
    if name == "gemma-2":
        with pytest.raises(TemplateError):
            tokenizer.render(conversation, prompting=False)


def test_the_date_in_a_template_stands_still(family: tuple[str, Tokenizer]) -> None:
    """P10: Llama 3.2 writes the day into every prompt; it is always the same one."""
    name, tokenizer = family
    text = tokenizer.render(say("Hi"), prompting=True)

    assert ("26 Jul 2024" in text) == (name == "llama-3.2")


def test_padding_never_is_what_an_answer_ends_with(family: tuple[str, Tokenizer]) -> None:
    """P4, for the family's own end of turn."""
    name, tokenizer = family
    end = tokenizer.ends[ANSWER_END[name]]

    assert choose_pad(tokenizer, GENERIC, [end]) != end


def test_smollm2_pads_with_another_token_than_it_stops_with(real: Tokenizer) -> None:
    """P4: its published padding token is its end of turn."""
    assert real.inner.pad_token_id == real.ends["<|im_end|>"]
    assert (
        choose_pad(real, families.load("smollm2"), [real.ends["<|im_end|>"]]) == real.inner.get_vocab()["<|endoftext|>"]
    )


def test_smollm2s_own_system_text_is_found(real: Tokenizer) -> None:
    """P11: what the template injects equals what the family's file says."""
    assert Systems.of(real).default == families.load("smollm2").default_system


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=60).filter(str.strip)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(texts, min_size=2, max_size=4).filter(lambda turns: len(turns) % 2 == 0))
def test_on_the_real_vocabulary_the_trained_tokens_are_the_answers(real: Tokenizer, turns: list[str]) -> None:
    """P2, P8: for any text, the trained tokens decode to the answers with their ends, but for a merged first token."""
    # The vocabulary lacks some bytes that only characters outside of every script have.
    assume(
        all(real.inner.decode(encoding.ids) == text for encoding, text in zip(real.encode(turns), turns, strict=True))
    )
    (rendered,) = render_answers(say(*turns), real.render, real.ends)
    encoding = real.encode([rendered.text])[0]

    masked = mask_tokens(encoding.offsets, rendered.spans)

    check_ends(encoding.ids, masked.mask, real.ends.values())
    trained = real.inner.decode([i for i, on in zip(encoding.ids, masked.mask, strict=True) if on])
    expected = "".join(f"{answer}<|im_end|>" for answer in turns[1::2])
    assert expected.endswith(trained) if masked.merged_boundaries else trained == expected


def test_the_file_is_run_as_it_is_where_transformers_would_rebuild_it(tmp_path: Path) -> None:
    """P30: SmolLM2's published class makes transformers lose the splitting of digits."""
    shutil.copytree(smollm2(), tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors", "SmolLM2*"))
    file = tmp_path / "model" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": "GPT2Tokenizer"}))

    tokenizer = load_tokenizer(tmp_path / "model", families.load("smollm2"))

    assert tokenizer.differs
    assert tokenizer.encode(["12345"])[0].offsets == [(n, n + 1) for n in range(5)]
    assert tokenizer.render(say("Hi"), prompting=True).endswith("<|im_start|>assistant\n")
    assert tokenizer.ends == {"<|im_end|>": 2}


def test_every_probe_survives_the_real_tokenizer(real: Tokenizer) -> None:
    """What is encoded comes back."""
    assert list(PROBES) == [real.inner.decode(encoding.ids) for encoding in real.encode(PROBES)]


@pytest.mark.parametrize("damage", ["absent", "broken", "lossy"])
def test_a_tokenizer_that_cannot_be_used_is_the_models_fault(tmp_path: Path, damage: str) -> None:
    """A missing file, a broken one, and one that does not give back its text."""
    shutil.copytree(smollm2(), tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors", "SmolLM2*"))
    file = tmp_path / "model" / "tokenizer.json"
    if damage == "absent":
        file.unlink()
    elif damage == "broken":
        file.write_text("{")
    else:
        content = json.loads(file.read_text(encoding="utf-8"))
        content["normalizer"] = {"type": "Lowercase"}
        file.write_text(json.dumps(content), encoding="utf-8")

    with pytest.raises(StageFailure) as caught:
        load_tokenizer(tmp_path / "model", families.load("smollm2"))

    assert caught.value.failure is FailureClass.MODEL_INVALID


def test_a_text_gets_the_beginning_that_llama_cpp_gives_it(real: Tokenizer, family: tuple[str, Tokenizer]) -> None:
    """P1, P45: one where the tokenizer adds it; none for SmolLM2, which has one but never puts it in front."""
    _, tokenizer = family

    assert real.with_bos([5]) == [5]
    assert tokenizer.with_bos([5]) == ([tokenizer.bos_id, 5] if tokenizer.adds_bos else [5])


def test_padding_passes_over_a_candidate_that_ends_a_row(real: Tokenizer) -> None:
    """P4: in a dataset of plain text of a base model the end of text is trained, so it does not pad."""
    end_of_text = real.inner.get_vocab()["<|endoftext|>"]

    assert choose_pad(real, GENERIC, [real.ends["<|im_end|>"]]) == end_of_text
    assert choose_pad(real, GENERIC, [end_of_text]) != end_of_text


def test_the_clock_of_a_template_stands_still(tmp_path: Path) -> None:
    """P10: also where a template asks for the time itself."""
    template = "{{ strftime_now('%d.%m.%Y') }}{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}"
    tokenizer = load_tokenizer(_model(tmp_path / "model", template, [], None, "<|im_end|>"), GENERIC)

    assert tokenizer.render(say("Hi"), prompting=True) == "26.07.2024Hi<|im_end|>"
