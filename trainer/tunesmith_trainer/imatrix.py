"""imatrix: the bf16 GGUF and the calibration text in, an importance matrix out (pitfalls P52 to P57)."""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.settings import ImatrixSettings
from tunesmith_api.stages import Kind
from tunesmith_trainer.figures_file import read_figures, write_figures
from tunesmith_trainer.llama.gguf_file import read_gguf
from tunesmith_trainer.llama.importance import Calibrating, Piece, collect, misfits, read_importance
from tunesmith_trainer.parts import Part
from tunesmith_trainer.work import Outcome, Output, Work

log = logging.getLogger(__name__)

FILE = "imatrix.gguf"
# So many windows are collected before what there is is kept. llama-imatrix's own intermediate files are written while a
# batch is under way and hold more of the first tensor than of the others, so only whole runs can be gone on from. 40
# windows are 20 s of a 135M model and some minutes of a 4B one on 2 cores.
PIECE = 40


def run(work: Work) -> Outcome:
    """Collect importance piece by piece, going on from what an interrupted run has kept; check that it fits."""
    started = time.monotonic()
    settings = ImatrixSettings.model_validate(work.request.settings)
    gguf = work.inputs[Kind.GGUF] / "model.gguf"
    chunks, matrix = _collected(work, settings, gguf)
    found = read_importance(matrix)
    if wrong := misfits(found, read_gguf(gguf), chunks, settings.context_length):
        raise StageFailure(
            FailureClass.CONVERSION_INVALID, f"the importance matrix is not the model's: {'; '.join(wrong)}"
        )
    folder = work.scratch / "imatrix"
    folder.mkdir()
    shutil.move(matrix, folder / FILE)
    figures = {
        "chunks": chunks,
        "contextLength": settings.context_length,
        "entries": len(found.entries),
        **token_figures(read_figures(work.inputs[Kind.DATASET]), chunks * settings.context_length),
        "seconds": round(time.monotonic() - started, 3),
    }
    write_figures(folder, figures)
    return Outcome({Kind.IMATRIX: Output(folder)}, {"chunks": chunks, "entries": len(found.entries)})


def _collected(work: Work, settings: ImatrixSettings, gguf: Path) -> tuple[int, Path]:
    """How many windows were collected, and the file; fewer than asked for where the text is shorter."""
    done, matrix = _kept(work)
    while done < settings.chunks:
        wanted = min(PIECE, settings.chunks - done)
        share = Part(work.progress, done / settings.chunks, (done + wanted) / settings.chunks)
        text = work.inputs[Kind.DATASET] / "calibration.txt"
        how = Calibrating(work.tools(), gguf, text, settings.context_length, work.interrupted, share)
        piece = work.scratch / f"piece-{done}" / FILE
        piece.parent.mkdir(exist_ok=True)
        taken = collect(how, Piece(done, wanted, matrix), piece)
        if taken:
            done, matrix = done + taken, piece
            log.info("%d windows collected", done)
            if work.checkpoints is not None and done < settings.chunks:
                work.checkpoints.save(done, piece.parent)
        if taken < wanted:
            break
    if matrix is None:
        raise StageFailure(FailureClass.DATASET_TOO_SMALL, "the calibration text is too short for a single window")
    return done, matrix


def _kept(work: Work) -> tuple[int, Path | None]:
    kept = None if work.checkpoints is None else work.checkpoints.newest(work.scratch / "kept")
    if kept is None:
        return 0, None
    log.info("going on after %d windows", kept[0])
    return kept[0], kept[1] / FILE


def token_figures(dataset: dict[str, Any], tokens: int) -> dict[str, int]:
    """How many of the tokens are the user's own; prepare mixes both kinds evenly, so the shares are the text's."""
    counts = dataset.get("tokens") or {}
    own, general = int(counts.get("calibrationOwn", 0)), int(counts.get("calibrationGeneral", 0))
    if not own + general:
        return {"tokens": tokens}
    mine = round(tokens * own / (own + general))
    return {"tokens": tokens, "ownTokens": mine, "generalTokens": tokens - mine}
