"""baseline: the bf16 GGUF and the gate text in, the logits that every quantization is compared with out."""

import time
from typing import Any

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.settings import BaselineSettings
from tunesmith_api.stages import Kind
from tunesmith_trainer.figures_file import read_figures, write_figures
from tunesmith_trainer.llama.gguf_file import read_gguf
from tunesmith_trainer.llama.perplexity import Measuring, chunk_bytes, measure_perplexity, read_logits_header
from tunesmith_trainer.parts import Part
from tunesmith_trainer.work import Outcome, Output, Work

FILE = "logits.kld"


def run(work: Work) -> Outcome:
    """Store the logits of the gate text, of as many windows as fit into the bytes that are allowed (P65)."""
    started = time.monotonic()
    settings = BaselineSettings.model_validate(work.request.settings)
    gguf = work.inputs[Kind.GGUF] / "model.gguf"
    vocabulary = len(read_gguf(gguf).tokens)
    folder = work.scratch / "logits"
    folder.mkdir()
    how = Measuring(
        tools=work.tools(),
        scratch=work.scratch,
        interrupted=work.interrupted,
        context_length=settings.context_length,
        chunks=chunks_within(settings, vocabulary),
        tell=Part(work.progress, 0.0, 1.0),
    )
    result = measure_perplexity(how, gguf, work.inputs[Kind.DATASET] / "gate.txt", folder / FILE)
    try:
        header = read_logits_header(folder / FILE)
    except (OSError, ValueError) as error:
        raise StageFailure(FailureClass.DISK_FULL, f"the logits were not written whole: {error}") from error
    if (header.chunks, header.context_length, header.vocabulary) != (
        result.chunks,
        settings.context_length,
        vocabulary,
    ):
        raise StageFailure(FailureClass.CONVERSION_INVALID, f"the stored logits are of another run: {header}")
    figures = {
        "perplexity": result.perplexity.value,
        "perplexityError": result.perplexity.error,
        "chunks": result.chunks,
        "contextLength": settings.context_length,
        **_token_figures(read_figures(work.inputs[Kind.DATASET]), result.chunks * settings.context_length),
        "bytes": header.file_bytes,
        "seconds": round(time.monotonic() - started, 3),
    }
    write_figures(folder, figures)
    return Outcome({Kind.LOGITS: Output(folder)}, {"perplexity": result.perplexity.value, "chunks": result.chunks})


def _token_figures(dataset: dict[str, Any], tokens: int) -> dict[str, int]:
    """How many of the measured tokens are of held-out answers, which come first, and how many of general text."""
    own = min(int((dataset.get("tokens") or {}).get("gateOwn", 0)), tokens)
    return {"tokens": tokens, "ownTokens": own, "generalTokens": tokens - own}


def chunks_within(settings: BaselineSettings, vocabulary: int) -> int:
    """The number of windows whose logits take at most `max_bytes`, at least two of them."""
    fitting = settings.max_bytes // chunk_bytes(settings.context_length, vocabulary)
    return max(2, min(settings.chunks, fitting))
