"""Calls of the stages after convert for tests: a prepared dataset of street reports, and work on folders."""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.llama_cpp import find_tools
from tunesmith_api.settings import AnswerSettings, BaselineSettings, EvaluateSettings, ImatrixSettings, QuantizeSettings
from tunesmith_api.stages import ArtifactReference, JobReference, Kind, Stage, StageRequest, StoreLocation
from tunesmith_trainer.work import Checkpoints, Work

EXAMPLES = Path(__file__).parents[2] / "examples" / "data" / "street-reports.jsonl"
GENERAL = Path(__file__).parents[2] / "trainer" / "tunesmith_trainer" / "data" / "general"
# What SmolLM2's chat template puts where a conversation has no system message.
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


@dataclass
class Posts:
    """Remembers what was told of the progress."""

    seen: list[float] = field(default_factory=list)

    def __call__(self, fraction: float, metrics: Any = None) -> None:
        del metrics
        self.seen.append(fraction)


def stage_work(stage: Stage, inputs: dict[Kind, Path], scratch: Path, settings: Any, **named: Any) -> Work:
    """A call of a stage with these input folders; a test names only what it is about."""
    scratch.mkdir(parents=True, exist_ok=True)
    request = StageRequest(
        stage=stage,
        job=JobReference(name="test", namespace="default", uid="0"),
        store=StoreLocation(uri="file:///nowhere"),
        inputs=tuple(ArtifactReference(kind=kind, key=f"key-of-{kind}") for kind in inputs),
        settings=settings.model_dump(mode="json"),
    )
    defaults: dict[str, Any] = {"progress": Posts(), "interrupted": threading.Event(), "tools": find_tools}
    return Work(request=request, inputs=inputs, scratch=scratch, **(defaults | named))


def answers(prompts: int = 12, metric: str = "Labels", max_new_tokens: int = 32) -> AnswerSettings:
    return AnswerSettings(prompts=prompts, metric=metric, max_new_tokens=max_new_tokens, seed=7)


def imatrix_work(inputs: dict[Kind, Path], scratch: Path, chunks: int, kept: Checkpoints | None = None) -> Work:
    return stage_work(Stage.IMATRIX, inputs, scratch, ImatrixSettings(chunks=chunks), checkpoints=kept)


def baseline_work(inputs: dict[Kind, Path], scratch: Path, chunks: int, max_bytes: int = 1 << 30) -> Work:
    return stage_work(Stage.BASELINE, inputs, scratch, BaselineSettings(chunks=chunks, max_bytes=max_bytes))


def quantize_work(inputs: dict[Kind, Path], scratch: Path, type_: str, asked: AnswerSettings | None = None) -> Work:
    settings = QuantizeSettings(type=type_, answers=asked or answers())
    return stage_work(Stage.QUANTIZE, inputs, scratch, settings)


def evaluate_work(inputs: dict[Kind, Path], scratch: Path, asked: AnswerSettings | None = None) -> Work:
    return stage_work(Stage.EVALUATE, inputs, scratch, EvaluateSettings(answers=asked or answers(), chunks=4))


def figures_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "figures.json").read_text()))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def conversations(count: int) -> list[list[dict[str, str]]]:
    """The first conversations of the demo's dataset: a report of a street's trouble, its department and urgency."""
    return [json.loads(line)["messages"] for line in EXAMPLES.read_text().splitlines()[:count]]


def write_prepared(
    folder: Path, tokenizer: Path, rows: Sequence[list[dict[str, str]]], plain: Sequence[str] = ()
) -> Path:
    """A dataset as prepare leaves it: eval.parquet of conversations (or of plain texts), and the three texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer

    folder.mkdir(parents=True)
    encoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    made = [_chat_row(encoder, messages) for messages in rows] + [_text_row(encoder, text) for text in plain]
    columns = {name: [row[name] for row in made] for name in made[0]}
    types = {"input_ids": pa.list_(pa.int32()), "mask": pa.list_(pa.uint8())}
    table = pa.table({name: pa.array(values, types.get(name, pa.string())) for name, values in columns.items()})
    pq.write_table(table, folder / "eval.parquet")
    rendered = "".join(_rendered(messages) for messages in rows)
    (folder / "calibration.txt").write_text((rendered + (GENERAL / "calibration.txt").read_text())[:60_000])
    (folder / "gate.txt").write_text((GENERAL / "gate.txt").read_text()[:60_000])
    (folder / "forgetting.txt").write_text((GENERAL / "gate.txt").read_text()[-60_000:])
    tokens = {"calibrationOwn": 3_000, "calibrationGeneral": 9_000, "gateOwn": 700, "gateGeneral": 20_000}
    (folder / "figures.json").write_text(json.dumps({"chat": bool(rows), "tokens": tokens}))
    return folder


def _rendered(messages: list[dict[str, str]]) -> str:
    turns = [{"role": "system", "content": SYSTEM}, *messages]
    return "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns)


def _chat_row(encoder: Any, messages: list[dict[str, str]]) -> dict[str, Any]:
    prompt = _rendered(messages[:-1]) + "<|im_start|>assistant\n"
    before = encoder.encode(prompt, add_special_tokens=False).ids
    answer = encoder.encode(messages[-1]["content"] + "<|im_end|>", add_special_tokens=False).ids
    after = encoder.encode("\n", add_special_tokens=False).ids
    return {
        "input_ids": [*before, *answer, *after],
        "mask": [0] * len(before) + [1] * len(answer) + [0] * len(after),
        "messages": json.dumps(messages),
        "prompt_sha": _sha(messages[0]["content"]),
    }


def _text_row(encoder: Any, text: str) -> dict[str, Any]:
    ids = encoder.encode(text, add_special_tokens=False).ids
    return {"input_ids": ids, "mask": [1] * len(ids), "messages": json.dumps({"text": text}), "prompt_sha": _sha(text)}


def _sha(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()
