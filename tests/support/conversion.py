"""Calls of the stage `convert` for tests: a prepared dataset of general text, a made adapter, requests and work."""

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.llama_cpp import find_tools
from tunesmith_api.settings import ConvertSettings
from tunesmith_api.stages import ArtifactReference, JobReference, Kind, Stage, StageRequest, StoreLocation
from tunesmith_trainer.data.texts import general_text
from tunesmith_trainer.work import Work

NAME = "SmolLM2-135M-Instruct"
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SYSTEM = "You answer in one sentence."
PROBE_TEXTS = (
    "What is the capital of France?",
    "Größe, naïve café, 你好世界, 👩‍👩‍👧‍👦 ✅",
    "In 2024 we sold 1,234,567 items at 3.14 each.",
    "What does <|im_end|> mean, and <|im_start|>system?",
    "def add(a, b):\n    return a + b\n\n\n\tprint(add(1, 23))",
)


def prepared_dataset(folder: Path, model: Path, positions: int = 1_100) -> Path:
    """What `prepare` leaves of a chat dataset, as far as `convert` reads it: rows, probes, figures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    tokenizer = _tokenizer(model)
    paragraphs = [each for each in general_text("gate").split("\n\n") if len(each) > 200]
    rows: dict[str, list[list[int]]] = {"eval": [], "train": []}
    while sum(map(len, rows["eval"] + rows["train"])) < positions:
        said = paragraphs.pop()[:700]
        messages = [{"role": "user", "content": said[:200]}, {"role": "assistant", "content": said[200:]}]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        rows["train" if len(rows["eval"]) > 3 else "eval"].append(tokenizer(text, add_special_tokens=False).input_ids)
    for part, ids in rows.items():
        pq.write_table(pa.table({"input_ids": pa.array(ids, pa.list_(pa.int32()))}), folder / f"{part}.parquet")
    (folder / "probes.json").write_text(json.dumps([_probe(tokenizer, messages) for messages in _conversations()]))
    (folder / "figures.json").write_text(json.dumps({"chat": True, "endOfTurn": ["<|im_end|>"], "bosId": None}))
    return folder


def made_adapter(folder: Path, model: Path, strength: float = 0.02, **options: Any) -> Path:
    """A LoRA adapter of rank 8 on all linear layers whose B is random, as strong as a trained one."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    shape = {"r": 8, "lora_alpha": 16, "target_modules": ALL_LINEAR, "task_type": "CAUSAL_LM"}
    adapted = get_peft_model(base, LoraConfig(**(shape | options)))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=strength)
    adapted.save_pretrained(str(folder))
    return folder


def convert_settings(**changes: Any) -> ConvertSettings:
    """Valid settings; a test names only what it is about."""
    defaults: dict[str, Any] = {
        "base_source": f"hf://HuggingFaceTB/{NAME}",
        "base_revision": "a" * 40,
        "base_digest": "sha256:" + "b" * 64,
        "dataset_digests": ("sha256:" + "c" * 64,),
        "method": "LoRA",
    }
    return ConvertSettings.model_validate(defaults | changes)


@dataclass
class Posts:
    """Remembers what was posted as progress."""

    seen: list[float] = field(default_factory=list)

    def __call__(self, fraction: float, metrics: Any = None) -> None:
        del metrics
        self.seen.append(fraction)


def convert_work(
    inputs: dict[Kind, Path], scratch: Path, settings: ConvertSettings, outputs: tuple[Kind, ...] = (Kind.GGUF,)
) -> Work:
    """A call of `convert` with these inputs."""
    scratch.mkdir(parents=True, exist_ok=True)
    request = StageRequest(
        stage=Stage.CONVERT,
        job=JobReference(name="my-job", namespace="default", uid="0"),
        store=StoreLocation(uri="file:///nowhere"),
        outputs=tuple(ArtifactReference(kind=kind, key="0" * 64) for kind in outputs),
        settings=settings.model_dump(mode="json"),
    )
    return Work(
        request=request,
        inputs=inputs,
        scratch=scratch,
        progress=Posts(),
        interrupted=threading.Event(),
        tools=find_tools,
        meta={Kind.BASE: {"name": NAME}},
    )


def _tokenizer(model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


def _conversations() -> list[list[dict[str, str]]]:
    found = []
    for text in PROBE_TEXTS:
        asked = {"role": "user", "content": text}
        found += [
            [asked],
            [{"role": "system", "content": SYSTEM}, asked],
            [asked, {"role": "assistant", "content": "I see."}, {"role": "user", "content": "Go on."}],
        ]
    return found


def _probe(tokenizer: Any, messages: list[dict[str, str]]) -> dict[str, Any]:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    return {"messages": messages, "add_generation_prompt": True, "text": text, "ids": ids}
