"""evaluate: base and tuned GGUF in, their answers, scores, losses and what was forgotten out (P67, P68)."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.json_lines import write_lines
from tunesmith_api.settings import EvaluateSettings
from tunesmith_api.stages import Kind
from tunesmith_trainer.figures_file import write_figures
from tunesmith_trainer.llama.gguf_file import Gguf, read_gguf
from tunesmith_trainer.llama.perplexity import Measuring, Perplexity, measure_perplexity, paired_increase
from tunesmith_trainer.parts import Tell, parts
from tunesmith_trainer.scores.answering import TEMPLATE_KEY, Asking, ask
from tunesmith_trainer.scores.held_out import HeldOut, read_held_out
from tunesmith_trainer.scores.scoring import (
    Scored,
    answer_record,
    gain_figures,
    held_out_losses,
    row_record,
    score_answers,
    score_figures,
)
from tunesmith_trainer.work import Outcome, Output, Work

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Measured:
    """One model: its scores, the figures of its answers, its perplexity on general text."""

    scored: Scored
    answers: dict[str, Any]
    general: Perplexity


def run(work: Work) -> Outcome:
    """Ask both models the same held-out prompts, one after the other; write what each said and scored."""
    started = time.monotonic()
    settings = EvaluateSettings.model_validate(work.request.settings)
    rows = read_held_out(work.inputs[Kind.DATASET] / "eval.parquet", settings.answers.prompts)
    files = {
        "base": read_gguf(work.inputs[Kind.BASE_GGUF] / "model.gguf"),
        "tuned": read_gguf(work.inputs[Kind.GGUF] / "model.gguf"),
    }
    template = _tuned_template(work, files)
    tellers = parts(work.progress, 1.0, 1.0)
    measured = {
        name: _measure(work, settings, rows, file, (template if name == "base" else None, tell))
        for (name, file), tell in zip(files.items(), tellers, strict=True)
    }
    base, tuned = measured["base"], measured["tuned"]
    seed = settings.answers.seed
    figures = {
        "metric": settings.answers.metric.value,
        "prompts": len(rows),
        "base": score_figures(base.scored, seed) | {"chat": base.answers},
        "tuned": score_figures(tuned.scored, seed) | {"chat": tuned.answers},
        **gain_figures(base.scored, tuned.scored, seed),
        "forgetting": {
            "base": base.general.perplexity.to_json_dict(),
            "tuned": tuned.general.perplexity.to_json_dict(),
            **paired_increase(base.general, tuned.general),
            "chunks": base.general.chunks,
            "contextLength": settings.context_length,
        },
        "seconds": round(time.monotonic() - started, 3),
    }
    folder = work.scratch / "evaluation"
    folder.mkdir()
    write_figures(folder, figures)
    write_lines(folder / "answers.jsonl", _records(rows, base.scored, tuned.scored))
    return Outcome({Kind.EVALUATION: Output(folder)}, headline(figures))


def _tuned_template(work: Work, files: dict[str, Gguf]) -> Path | None:
    """The tuned model's template as a file, where the base's own is another or absent: both are asked alike."""
    theirs = files["tuned"].metadata.get(TEMPLATE_KEY)
    if theirs is None or theirs == files["base"].metadata.get(TEMPLATE_KEY):
        return None
    path = work.scratch / "chat_template.jinja"
    path.write_text(theirs)
    return path


def _measure(
    work: Work, settings: EvaluateSettings, rows: list[HeldOut], file: Gguf, how: tuple[Path | None, Tell]
) -> _Measured:
    template, tell = how
    answer, general = parts(tell, 2.0, 1.0)
    tools, chosen = work.tools(), settings.answers
    asking = Asking(tools, file, rows, chosen.max_new_tokens, chosen.seed, work.interrupted, answer, template)
    answered = ask(asking)
    scores = score_answers(chosen.metric, rows, answered.answers)
    scored = Scored(chosen.metric, rows, answered.answers, scores, held_out_losses(tools, file.path, rows))
    measuring = Measuring(tools, work.scratch, work.interrupted, settings.context_length, settings.chunks, general)
    text = work.inputs[Kind.DATASET] / "forgetting.txt"
    return _Measured(scored, dict(answered.figures), measure_perplexity(measuring, file.path, text))


def _records(rows: list[HeldOut], base: Scored, tuned: Scored) -> list[dict[str, Any]]:
    return [
        row_record(row) | {"base": answer_record(base, index), "tuned": answer_record(tuned, index)}
        for index, row in enumerate(rows)
    ]


def headline(figures: dict[str, Any]) -> dict[str, Any]:
    """What travels in the result (contract 5)."""
    return {
        "metric": figures["gain"]["metric"],
        "base": figures["base"]["score"]["value"],
        "tuned": figures["tuned"]["score"]["value"],
        "gain": {name: figures["gain"][name] for name in ("value", "low", "high")},
        "prompts": figures["prompts"],
    }
