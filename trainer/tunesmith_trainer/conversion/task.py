"""From a call of the stage convert to what it works on: the folders, the name, the rows and probes to compare with."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tunesmith.llama_cpp import Tools
from tunesmith_api import families
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.settings import ConvertSettings
from tunesmith_api.stages import Kind
from tunesmith_trainer.conversion.provenance import model_name
from tunesmith_trainer.data.texts import general_text
from tunesmith_trainer.figures_file import read_figures
from tunesmith_trainer.parity.logits import POSITIONS, SEQUENCE, sequences
from tunesmith_trainer.parity.template import Probe, read_probes
from tunesmith_trainer.tokenizer import load_tokenizer
from tunesmith_trainer.work import Work

PARTS = ("eval.parquet", "train.parquet")
# Rows read at once; some dozen hold the 1,024 tokens that are compared.
ROWS_AT_ONCE = 64
# Of the tokens compared, those on which base and adapter apart are evaluated too: enough for a mean, and each costs
# three more forward passes.
FEW_POSITIONS = 256


@dataclass(frozen=True, slots=True)
class Task:
    """One call of convert. `adapter` is a LoRA adapter, full weights, or None where the base is converted as it is."""

    work: Work
    settings: ConvertSettings
    name: str
    tools: Tools
    base: Path
    adapter: Path | None
    dataset: Path
    wants_base: bool

    def go_on(self, fraction: float | None = None) -> None:
        """Tell how far the stage is; raises Interrupted where it is to stop."""
        if self.work.interrupted.is_set():
            raise StageFailure(FailureClass.INTERRUPTED, "interrupted while converting")
        if fraction is not None:
            self.work.progress(fraction)


def read_task(work: Work) -> Task:
    """Everything that the request says, and the tools; raises ToolsMissing."""
    settings = ConvertSettings.model_validate(work.request.settings)
    base = work.inputs[Kind.BASE]
    if json.loads((base / "config.json").read_text()).get("quantization_config"):
        message = "the base model is quantized; an adapter is merged into 16-bit weights only (P31, P43)"
        raise StageFailure(FailureClass.MODEL_INVALID, message, "Name the original model, not a quantized copy.")
    return Task(
        work=work,
        settings=settings,
        name=model_name(work.meta.get(Kind.BASE, {}).get("name"), settings.base_source),
        tools=work.tools(),
        base=base,
        adapter=work.inputs.get(Kind.ADAPTER),
        dataset=work.inputs[Kind.DATASET],
        wants_base=any(output.kind is Kind.BASE_GGUF for output in work.request.outputs),
    )


def own_rows(task: Task) -> list[list[int]]:
    """Token ids of held-out rows, then of training rows, then general text, to the positions that are compared."""
    return list(sequences(chain(_stored_rows(task.dataset), _general_rows(task)), POSITIONS))


def few_of(rows: list[list[int]]) -> list[list[int]]:
    """The first rows that together hold FEW_POSITIONS positions."""
    count = 0
    for place, row in enumerate(rows):
        count += len(row)
        if count >= FEW_POSITIONS:
            return rows[: place + 1]
    return rows


def read_dataset_probes(task: Task) -> list[Probe]:
    """The conversations that were rendered when the dataset was prepared."""
    content: list[dict[str, Any]] = json.loads((task.dataset / "probes.json").read_text())
    return read_probes(content)


def dataset_figures(task: Task) -> dict[str, Any]:
    """What prepare found: `chat`, `endOfTurn`, `bosId` and more."""
    return read_figures(task.dataset)


def _general_rows(task: Task) -> Iterator[list[int]]:
    """Windows of general text in the base's tokens; the tokenizer is loaded only where the rows do not suffice."""
    family = families.load(str(dataset_figures(task).get("family", families.GENERIC)))
    tokenizer = load_tokenizer(task.base, family)
    ids = tokenizer.encode([general_text("forgetting")])[0].ids
    for at in range(0, len(ids), SEQUENCE - 1):
        yield tokenizer.with_bos(ids[at : at + SEQUENCE - 1])


def _stored_rows(dataset: Path) -> Iterator[list[int]]:
    import pyarrow.parquet as pq

    for part in PARTS:
        with pq.ParquetFile(dataset / part) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=["input_ids"]):
                yield from batch.column(0).to_pylist()
