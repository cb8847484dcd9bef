"""convert: base and adapter (or full weights) in, a bf16 GGUF out that is proven to be the same model.

The adapter is merged into the 16-bit base, which is proven from the files and by a forward pass; llama.cpp's own script
converts; the GGUF is read back and compared with transformers in template, token ids and next-token distributions. The
untouched base is converted and verified the same way, keyed by the base alone. Scripts and server run beside the
forward passes, so that more than one core has work.
"""

import os
import shutil
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith_api.stages import Kind
from tunesmith_trainer.conversion.adapter_folder import why_not
from tunesmith_trainer.conversion.merge import is_adapter
from tunesmith_trainer.conversion.model_folder import intended_template
from tunesmith_trainer.conversion.task import Task, dataset_figures, few_of, own_rows, read_dataset_probes, read_task
from tunesmith_trainer.conversion.weights import Tuned, load_model, logits_without, merge_figures, tuned_model
from tunesmith_trainer.conversion.write import ADAPTER, MODEL, write_base, write_tuned
from tunesmith_trainer.data.texts import general_text
from tunesmith_trainer.figures_file import write_figures
from tunesmith_trainer.llama.gguf_file import Gguf
from tunesmith_trainer.llama.libllama import Model
from tunesmith_trainer.llama.server import Serving, serve
from tunesmith_trainer.parity.forward import logits
from tunesmith_trainer.parity.logits import POSITIONS, SEQUENCE, sequences
from tunesmith_trainer.parity.template import Probe, rendering_findings
from tunesmith_trainer.parity.tokens import compare_tokens
from tunesmith_trainer.parity.verify import (
    Intended,
    agreement_figures,
    open_model,
    refuse,
    verify_adapter,
    verify_ends,
    verify_file,
    verify_logits,
    verify_tokens,
)
from tunesmith_trainer.work import Outcome, Output, Work

if TYPE_CHECKING:
    import torch


def run(work: Work) -> Outcome:
    """Merge, convert, verify; raises MergeInvalid, ConversionInvalid, ConversionUnsupported, ToolsMissing."""
    # Before torch is loaded: threads that spin while they wait take the cores from the converter beside them (measured
    # on two busy cores: this stage in 87 s in place of 331).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    started = time.monotonic()
    task = read_task(work)
    rows = own_rows(task)
    outputs: dict[Kind, Output] = {}
    with ThreadPoolExecutor(max_workers=1) as beside:
        writing_base = beside.submit(write_base, task) if task.wants_base else None
        base = load_model(task.base)
        task.go_on(0.1)
        if writing_base is not None:
            outputs[Kind.BASE_GGUF] = Output(_verified_base(task, base, writing_base.result()))
        task.go_on(0.4)
        tuned = tuned_model(task, base, few_of(rows))
        del base
        figures = _tuned(task, tuned, rows, beside)
    folder = work.scratch / "gguf"
    figures["seconds"] = round(time.monotonic() - started, 3)
    write_figures(folder, figures)
    # Two bytes a parameter that nothing reads any more (P62).
    shutil.rmtree(work.scratch / "merged")
    outputs[Kind.GGUF] = Output(folder)
    headline = {"bytes": figures["bytes"], **{name: figures["logits"][name] for name in ("sameTop", "klDivergence")}}
    return Outcome(outputs, headline)


def _verified_base(task: Task, base: "torch.nn.Module", folder: Path) -> Path:
    """The base's GGUF compared with the base on general text: nothing of the job may decide about it."""
    path = folder / MODEL
    file = verify_file(path, Intended(folder=task.base, template=intended_template(task.base)))
    with open_model(task.tools, path) as model:
        rows = general_rows(model)
        found = verify_logits(model, path, rows, [logits(base, row) for row in rows])
    write_figures(folder, {**_file_figures(task, file), "logits": agreement_figures(found)})
    return folder


def general_rows(model: Model) -> list[list[int]]:
    """Windows of the shipped general text in the model's own tokens, each with a BOS where it wants one (P45)."""
    vocabulary = model.vocabulary
    ids = model.tokenize(general_text("forgetting"), add_special=False)
    first = [vocabulary.bos] if vocabulary.adds_bos and vocabulary.bos is not None else []
    step = SEQUENCE - len(first)
    return list(sequences(([*first, *ids[at : at + step]] for at in range(0, len(ids), step)), POSITIONS))


def _tuned(task: Task, tuned: Tuned, rows: list[list[int]], beside: Executor) -> dict[str, Any]:
    """Convert and verify the tuned model; the scripts run while the merge is proven."""
    prepared = dataset_figures(task)
    ends = tuple(prepared.get("endOfTurn") or ()) if prepared.get("chat") else ()
    reason = _why_no_adapter(task)
    writing = beside.submit(write_tuned, task, tuned.source, None if reason else task.adapter, ends)
    right = [logits(tuned.model, row) for row in rows]
    merge = merge_figures(task, tuned, right)
    folder = writing.result()
    task.go_on(0.7)
    template = intended_template(task.base) if prepared.get("chat") else None
    path = folder / MODEL
    end = None if prepared.get("chat") else prepared.get("eosId")
    file = verify_file(path, Intended(tuned.source, template, ends, prepared.get("bosId"), end))
    probes = read_dataset_probes(task)
    rendering = beside.submit(_rendered, task, file, probes if template else [])
    figures = {**_file_figures(task, file), "merge": merge, **_evaluated(task, file, ends, (rows, right), probes)}
    figures["adapter"] = {"made": False, "reason": reason} if reason else _adapter(task, tuned, rows, folder)
    figures["template"] = {"equal": template is not None, "rendered": rendering.result()}
    return figures


def _evaluated(
    task: Task,
    file: Gguf,
    ends: tuple[str, ...],
    reference: "tuple[list[list[int]], list[torch.Tensor]]",
    probes: list[Probe],
) -> dict[str, Any]:
    with open_model(task.tools, file.path) as model:
        verify_ends(model, file, ends)
        tokens = verify_tokens(file.path, compare_tokens(model, probes))
        task.go_on(0.8)
        found = verify_logits(model, file.path, *reference)
    return {"tokens": tokens, "logits": agreement_figures(found)}


def _adapter(task: Task, tuned: Tuned, rows: list[list[int]], folder: Path) -> dict[str, Any]:
    if task.adapter is None:
        return {"made": False, "reason": "there is no adapter"}
    task.go_on(0.9)
    with open_model(task.tools, folder / MODEL) as model:
        few = few_of(rows)
        agreement = verify_adapter(model, folder / ADAPTER, few, logits_without(tuned.model, task.adapter, few))
    size = (folder / ADAPTER).stat().st_size
    return {"made": True, "bytes": size, "logits": agreement_figures(agreement)}


def _why_no_adapter(task: Task) -> str | None:
    if task.adapter is None or not is_adapter(task.adapter):
        return "there is no adapter"
    return why_not(task.adapter) if task.settings.adapter_gguf else "the family does not allow it"


def _rendered(task: Task, file: Gguf, probes: list[Probe]) -> int:
    """How many conversations llama-server renders as Hugging Face does; raises ConversionInvalid if one differs."""
    if not probes:
        return 0
    bos = file.token_id("bos")
    with serve(task.tools, file.path, Serving(SEQUENCE, slots=1), task.work.interrupted) as server:
        asked, findings = rendering_findings(server, probes, None if bos is None else file.tokens[bos])
    refuse(file.path, findings)
    return asked


def _file_figures(task: Task, file: Gguf) -> dict[str, Any]:
    eos = file.token_id("eos")
    return {
        "name": task.name,
        "architecture": file.architecture,
        "bytes": file.size,
        "tensors": len(file.tensors),
        "parameters": sum(tensor.elements for tensor in file.tensors.values()),
        "vocabulary": len(file.tokens),
        "eos": None if eos is None else file.tokens[eos],
        "llamaCpp": str(task.tools.build),
    }
