"""quantize: the bf16 GGUF in, one file of another type out, read back, measured and talked with (P54, P58 to P66)."""

import hashlib
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.json_lines import write_lines
from tunesmith.llama_cpp import Tools
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.quantizations import QuantizationType
from tunesmith_api.settings import QuantizeSettings
from tunesmith_api.stages import Kind
from tunesmith_trainer.figures_file import write_figures
from tunesmith_trainer.llama.gguf_file import Gguf, read_gguf
from tunesmith_trainer.llama.perplexity import Divergence, Measuring, compare_with_baseline, read_logits_header
from tunesmith_trainer.llama.quantization import (
    Plan,
    Quantizing,
    mistakes,
    plan_quantization,
    quantize,
    shape_of,
    step_fraction,
)
from tunesmith_trainer.parts import Tell, parts
from tunesmith_trainer.scores.answering import Asking, ask
from tunesmith_trainer.scores.held_out import HeldOut, read_held_out
from tunesmith_trainer.scores.scoring import (
    Scored,
    answer_record,
    held_out_losses,
    row_record,
    score_answers,
    score_figures,
)
from tunesmith_trainer.work import Outcome, Output, Work

log = logging.getLogger(__name__)

FILE = "model.gguf"
# Beside the tensors a file holds the vocabulary (Gemma's 262,000 tokens with scores and types take 14 MB), and the
# stage writes answers and figures.
BESIDE_BYTES = 32 << 20


def run(work: Work) -> Outcome:
    """Make the file, prove that it is what was asked for, and measure it; it is never touched after that."""
    started = time.monotonic()
    settings = QuantizeSettings.model_validate(work.request.settings)
    make, compare, answer, loss = parts(work.progress, 0.1, 0.45, 0.35, 0.1)
    folder = work.scratch / "quantized"
    folder.mkdir()
    tools = work.tools()
    how = _quantizing(work, tools, settings.type)
    plan = plan_quantization(how)
    made = _made(how, plan, folder, make)
    digest = _sha256(made.path)
    divergence = _compared(work, tools, made, compare)
    rows = read_held_out(work.inputs[Kind.DATASET] / "eval.parquet", settings.answers.prompts)
    asking = Asking(tools, made, rows, settings.answers.max_new_tokens, settings.answers.seed, work.interrupted, answer)
    answered = ask(asking)
    scores = score_answers(settings.answers.metric, rows, answered.answers)
    scored = Scored(settings.answers.metric, rows, answered.answers, scores, held_out_losses(tools, made.path, rows))
    loss(1.0)
    if _sha256(made.path) != digest:
        raise StageFailure(FailureClass.INTERNAL, f"{FILE} was changed while it was measured")
    figures = {
        "type": settings.type,
        "sha256": digest,
        "imatrix": how.imatrix is not None,
        **shape_of(made, plan),
        **divergence.to_json_dict(),
        _chat_or_completion(rows): dict(answered.figures),
        **score_figures(scored, settings.answers.seed),
        "seconds": round(time.monotonic() - started, 3),
    }
    write_figures(folder, figures)
    write_lines(
        folder / "answers.jsonl",
        [row_record(row) | {"answer": answer_record(scored, index)} for index, row in enumerate(rows)],
    )
    return Outcome({Kind.QUANTIZED: Output(folder)}, headline(figures))


def _quantizing(work: Work, tools: Tools, wanted: str) -> Quantizing:
    return Quantizing(
        tools=tools,
        source=work.inputs[Kind.GGUF] / FILE,
        type=QuantizationType(wanted),
        imatrix=work.inputs[Kind.IMATRIX] / "imatrix.gguf" if Kind.IMATRIX in work.inputs else None,
        scratch=work.scratch,
        interrupted=work.interrupted,
    )


def _made(how: Quantizing, plan: Plan, folder: Path, tell: Tell) -> Gguf:
    """The file, whole and verified, under its name; what is not finished has another (P62)."""
    refuse_full_disk(plan, folder)
    partial = folder / f"{FILE}.partial"

    def watch(line: str) -> None:
        if (fraction := step_fraction(line)) is not None:
            tell(fraction)

    if absent := quantize(how, partial, watch):
        raise StageFailure(
            FailureClass.CONVERSION_INVALID,
            f"the importance matrix lacks {len(absent)} tensors of the model, {absent[0]} for one",
        )
    source, made = read_gguf(how.source), read_gguf(partial)
    if wrong := mistakes(made, source, how.type, plan):
        raise StageFailure(
            FailureClass.CONVERSION_INVALID, f"what was made is not {how.type} of the model: {'; '.join(wrong[:5])}"
        )
    return read_gguf(partial.rename(folder / FILE))


def refuse_full_disk(plan: Plan, folder: Path) -> None:
    """Raises DoesNotFit where the disk of `folder` is too small for the planned file, DiskFull where it is too full."""
    needed, disk = plan.bytes + BESIDE_BYTES, shutil.disk_usage(folder)
    if needed > disk.total:
        raise StageFailure(FailureClass.DOES_NOT_FIT, f"the file takes {needed:,} bytes, the disk has {disk.total:,}")
    if needed > disk.free:
        raise StageFailure(FailureClass.DISK_FULL, f"the file takes {needed:,} bytes, {disk.free:,} are free")


def _compared(work: Work, tools: Tools, made: Gguf, tell: Tell) -> Divergence:
    logits = work.inputs[Kind.LOGITS] / "logits.kld"
    try:
        header = read_logits_header(logits)
    except (OSError, ValueError) as error:
        key = next(each.key for each in work.request.inputs if each.kind is Kind.LOGITS)
        message = f"the baseline's logits cannot be read: {error}"
        raise StageFailure(FailureClass.ARTIFACT_CORRUPT, message, artifact=(Kind.LOGITS.value, key)) from error
    how = Measuring(tools, work.scratch, work.interrupted, header.context_length, header.chunks, tell)
    return compare_with_baseline(how, made.path, logits)


def _chat_or_completion(rows: list[HeldOut]) -> str:
    return "chat" if rows and rows[0].is_chat else "completion"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def headline(figures: Mapping[str, Any]) -> dict[str, Any]:
    """What travels in the result: of 35 types that is all that there is room for (contract 5)."""
    return {
        "bytes": figures["bytes"],
        "sha256": figures["sha256"],
        "perplexityIncrease": figures["perplexityIncrease"]["value"],
        "score": figures["score"]["value"],
    }
