"""Calls of the stage `convert` for tests: a prepared dataset of general text, a made adapter, requests and work."""

import atexit
import json
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from support.models import cut, smollm2
from tunesmith.llama_cpp import find_tools
from tunesmith_api.settings import ConvertSettings
from tunesmith_api.stages import ArtifactReference, JobReference, Kind, Stage, StageRequest, StoreLocation
from tunesmith_trainer.conversion.merge import merged
from tunesmith_trainer.conversion.model_folder import model_folder
from tunesmith_trainer.conversion.task import own_rows, read_task
from tunesmith_trainer.conversion.weights import load_model
from tunesmith_trainer.convert import run
from tunesmith_trainer.data.texts import general_text
from tunesmith_trainer.parity.forward import logits
from tunesmith_trainer.work import Work

# Before torch is loaded, as the stage itself does it: spinning threads take the cores from each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

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


def made_adapter(folder: Path, model: Path, strength: float = 0.08, **options: Any) -> Path:
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


@dataclass(frozen=True)
class Converted:
    """One run of `convert` and what it was made of; `right` are transformers' logits of `rows`, before and after."""

    base: Path
    adapter: Path
    dataset: Path
    source: Path
    gguf: Path
    base_gguf: Path
    rows: list[list[int]]
    base_logits: list[Any]
    tuned_logits: list[Any]
    posts: Posts


@cache
def converted(layers: int | None) -> Converted:
    """`convert` run once on SmolLM2, whole or cut to its first layers, with an adapter; shared by all tests.

    The merged folder, which the stage removes, is merged again here by PEFT alone.
    """
    folder = Path(tempfile.mkdtemp(prefix="converted-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    base = smollm2() if layers is None else cut(smollm2(), layers, folder / "base")
    adapter = made_adapter(folder / "adapter", base)
    dataset = prepared_dataset(folder / "dataset", base)
    inputs = {Kind.BASE: base, Kind.ADAPTER: adapter, Kind.DATASET: dataset}
    work = convert_work(inputs, folder / "scratch", convert_settings(), (Kind.GGUF, Kind.BASE_GGUF))
    outputs = run(work).outputs
    from peft import PeftModel

    rows = own_rows(read_task(work))
    model = load_model(base)
    base_logits = [logits(model, row) for row in rows]
    whole = merged(PeftModel.from_pretrained(model, str(adapter)), folder / "weights")
    return Converted(
        base=base,
        adapter=adapter,
        dataset=dataset,
        source=model_folder(base, folder / "weights", folder, NAME),
        gguf=outputs[Kind.GGUF].folder,
        base_gguf=outputs[Kind.BASE_GGUF].folder,
        rows=rows,
        base_logits=base_logits,
        tuned_logits=[logits(whole, row) for row in rows],
        posts=work.progress,
    )


def untied(model: Path, target: Path) -> Path:
    """The model with an output head of its own, which differs from the embeddings as a trained one does."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, target)
    config = json.loads((model / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    weights = load_file(model / "model.safetensors")
    head = weights["model.embed_tokens.weight"]
    torch.manual_seed(2)
    weights["lm_head.weight"] = head + 0.5 * head.std() * torch.randn_like(head)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target
