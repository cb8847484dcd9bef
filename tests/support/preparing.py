"""Calls of the stage `prepare` and of its parts for tests: settings, source files, small conversations."""

import json
import sys
from collections.abc import Iterable
from importlib import util
from pathlib import Path
from typing import Any

from support.gguf_stages import stage_work
from tunesmith_api.settings import DatasetSettings, PrepareSettings
from tunesmith_api.stages import Kind, Stage
from tunesmith_trainer.data.conversations import Conversation, Message
from tunesmith_trainer.work import Work

EXAMPLES = Path(__file__).parents[2] / "examples"


def smollm2() -> Path:
    """The folder of the real SmolLM2-135M-Instruct, made on first use as examples/smollm2.py makes it."""
    spec = util.spec_from_file_location("smollm2_example", EXAMPLES / "smollm2.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules["smollm2_example"] = module
    spec.loader.exec_module(module)
    return Path(module.ensure_smollm2())


def numbered_datasets(count: int) -> tuple[DatasetSettings, ...]:
    return tuple(DatasetSettings(digest=f"sha256:{number}") for number in range(count))


def prepare_settings(**changes: Any) -> PrepareSettings:
    """Valid settings; a test names only what it is about."""
    defaults: dict[str, Any] = {
        "datasets": numbered_datasets(1),
        "max_sequence_length": 512,
        "system_prompt": {"mode": "Keep"},
        "on_invalid_rows": "Fail",
        "on_too_long": "Drop",
        "seed": 42,
        "family": "smollm2",
    }
    return PrepareSettings.model_validate(defaults | changes)


def prepare_work(base: Path, scratch: Path, settings: PrepareSettings, **named: Any) -> Work:
    """A call of `prepare` on what lies in ``scratch/sources``."""
    return stage_work(Stage.PREPARE, {Kind.BASE: base}, scratch, settings, **named)


def say(*turns: str, system: str | None = None) -> Conversation:
    """A conversation of turns that begin with the user's."""
    spoken = tuple(
        Message(role="assistant" if place % 2 else "user", content=content) for place, content in enumerate(turns)
    )
    return spoken if system is None else (Message(role="system", content=system), *spoken)


def write_rows(folder: Path, rows: Iterable[object], name: str = "rows.jsonl") -> Path:
    """A JSONL file of these rows; a string stands for itself."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    return path


def chats(count: int, start: int = 0) -> list[dict[str, object]]:
    """Rows of different questions with an answer each."""
    return [{"messages": list(say(f"What is {n} squared?", f"It is {n * n}."))} for n in range(start, start + count)]
