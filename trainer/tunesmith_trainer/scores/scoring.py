"""From one model's answers and losses to its scores, and from two models' to what one gained over the other."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.cores import usable_cores
from tunesmith.llama_cpp import Tools
from tunesmith_api.measuring import Metric
from tunesmith_trainer.llama.libllama import Losses, masked_loss
from tunesmith_trainer.llama.server import Completion
from tunesmith_trainer.scores.held_out import HeldOut
from tunesmith_trainer.scores.intervals import difference_interval, mean_interval, ratio_interval
from tunesmith_trainer.scores.metrics import SCORES, label_figures

# Which resamples a paired interval draws is of no account, as long as they are the same each time.
_PAIRED_SEED = 0


@dataclass(frozen=True, slots=True)
class Scored:
    """One model on the held-out rows: a score for each answer (none with the metric Loss) and the rows' losses."""

    metric: Metric
    rows: Sequence[HeldOut]
    answers: Sequence[Completion]
    scores: tuple[float, ...]
    losses: Losses

    @property
    def loss_terms(self) -> tuple[list[float], list[float]]:
        """Summed loss and number of scored tokens of each row."""
        return [row.total for row in self.losses.per_row], [float(row.tokens) for row in self.losses.per_row]


def score_answers(metric: Metric, rows: Sequence[HeldOut], answers: Sequence[Completion]) -> tuple[float, ...]:
    """Each answer's score, 0 to 1; none with the metric Loss, and none for plain text, which has no reference."""
    score = SCORES.get(metric)
    if score is None or not all(row.is_chat for row in rows):
        return ()
    return tuple(score(answer.text, row.reference) for row, answer in zip(rows, answers, strict=True))


def held_out_losses(tools: Tools, gguf: Path, rows: Sequence[HeldOut]) -> Losses:
    """The loss of the supervised tokens of `rows`, by libllama on the very ids that were prepared."""
    # As in `tool_environment`; libllama's threads are of this process, and read it when the library is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    longest = max((len(row.ids) for row in rows), default=1)
    return masked_loss(tools, gguf, [(row.ids, row.mask) for row in rows], usable_cores(), longest)


def score_figures(scored: Scored, seed: int) -> dict[str, Any]:
    """``score``, ``loss`` (nats per answer token, lower is better) and, for labels, each field's accuracy and table."""
    loss = ratio_interval(Metric.LOSS.value, *scored.loss_terms, seed)
    if not scored.scores:
        return {"score": loss, "loss": loss}
    figures = {"score": mean_interval(scored.metric.value, scored.scores, seed), "loss": loss}
    if scored.metric is Metric.LABELS:
        figures["labels"] = label_figures(
            [answer.text for answer in scored.answers], [row.reference for row in scored.rows]
        )
    return figures


def gain_figures(base: Scored, tuned: Scored, seed: int) -> dict[str, Any]:
    """What the tuned model gained over the base on the same rows; more is better, of a loss too (base less tuned)."""
    loss = difference_interval(Metric.LOSS.value, tuned.loss_terms, base.loss_terms, seed)
    if not tuned.scores:
        return {"gain": loss, "lossGain": loss}
    ones = [1.0] * len(tuned.scores)
    gain = difference_interval(tuned.metric.value, (base.scores, ones), (tuned.scores, ones), seed)
    return {"gain": gain, "lossGain": loss}


def answer_record(scored: Scored, index: int) -> dict[str, Any]:
    """One answer for answers.jsonl; `loss` is the sum over the reference's `tokens`, in nats."""
    answer, loss = scored.answers[index], scored.losses.per_row[index]
    score = scored.scores[index] if scored.scores else None
    return {
        "text": answer.text,
        "score": score,
        "stopped": answer.stopped,
        "loss": loss.total,
        "tokens": loss.tokens,
    }


def lost_figures(tuned: Sequence[Mapping[str, Any]], quantized: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a quantization lost of the tuned model's answers, from both models' `answer_record` of the same rows.

    ``scoreDrop`` (absent with the metric Loss) and ``lossIncrease``: more is worse, paired, with 95 % intervals.
    """
    before, after = [([row["loss"] for row in rows], [row["tokens"] for row in rows]) for rows in (tuned, quantized)]
    figures = {"lossIncrease": difference_interval(Metric.LOSS.value, before, after, _PAIRED_SEED)}
    scores = [[row["score"] for row in rows] for rows in (quantized, tuned)]
    if not any(None in each for each in scores):
        ones = [1.0] * len(tuned)
        figures["scoreDrop"] = difference_interval("score", (scores[0], ones), (scores[1], ones), _PAIRED_SEED)
    return figures


def row_record(row: HeldOut) -> dict[str, Any]:
    """What was asked, for answers.jsonl."""
    return {"id": row.id, "prompt": list(row.prompt), "reference": row.reference}
