"""From base and adapter to the tuned model as transformers has it, with its weights on disk and the merge proven."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.cores import usable_cores
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.base_model import caps_attention, read_json
from tunesmith_trainer.conversion.merge import check_full, check_merge, is_adapter, merged, sums
from tunesmith_trainer.conversion.model_folder import model_folder
from tunesmith_trainer.conversion.task import Task
from tunesmith_trainer.parity.forward import logits
from tunesmith_trainer.parity.logits import Agreement, Tolerance, compare, shortcomings

if TYPE_CHECKING:
    import torch

# Plain LoRA is proven in two steps that know no rounding: what the files hold is bfloat16(W + bfloat16(scale * B A)),
# bit by bit (`check_merge`), and W + scale * B A in float32 predicts what base and adapter do apart (`check_exact`).
EXACT = Tolerance(same_top=0.98, mean_kl=1e-6)
# Then rounding alone is left: it may cost this share of what the adapter does. A KL divergence grows with the square of
# a change, so this is half of the change. Few steps change weights by less than their last bit: 10 steps on 40 rows
# lost 5 % (decision 0007).
ROUNDED_SHARE = 0.25
# An adapter that is more than plain LoRA is judged by what the rounded model predicts: right merges had divergences
# of 0.0001 to 0.0133 and equal top tokens of 0.917 to 0.997, unmerged ones 0.12 and more and 0.84 at most; of 256
# positions such a share has a standard error of 1.5 points.
MERGED = Tolerance(same_top=0.9, mean_kl=0.02)
EFFECT_SHARE = 0.05
# Rounding merged weights to bfloat16 makes 0.0001 (measured), all that a nearly untrained adapter does.
ROUNDING_KL = 0.0005
_TOO_SMALL = "Train for more steps or with a higher training.learningRate: changes this small vanish in 16 bits."


@dataclass(frozen=True, slots=True)
class Apart:
    """Logits on a few rows before the merge: of the base, and of base and adapter side by side.

    `exact` are those of the base with the adapter's sums added in float32, on the first row alone: that they are equal
    shows at any position. None where the adapter is more than plain LoRA.
    """

    base: "list[torch.Tensor]"
    with_adapter: "list[torch.Tensor]"
    exact: "torch.Tensor | None"


@dataclass(frozen=True, slots=True)
class Tuned:
    """The tuned model in memory, the folder that is converted, and what the base said before; None without adapter."""

    model: "torch.nn.Module"
    source: Path
    apart: Apart | None


def load_model(folder: Path) -> "torch.nn.Module":
    """A causal language model in bfloat16 from safetensors, no remote code. Raises ModelInvalid."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(usable_cores())
    transformers_logging.disable_progress_bar()
    try:
        model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.bfloat16,
            attn_implementation="eager" if caps_attention(read_json(folder / "config.json")) else None,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    except (OSError, ValueError) as error:
        raise StageFailure(FailureClass.MODEL_INVALID, f"transformers cannot load the model: {error}") from error
    return model.eval()


def tuned_model(task: Task, base: "torch.nn.Module", few: list[list[int]]) -> Tuned:
    """The tuned model from the already loaded `base`, which it takes over. Raises MergeInvalid, ModelInvalid."""
    scratch = task.work.scratch / "merged"
    shutil.rmtree(scratch, ignore_errors=True)
    if task.adapter is None:
        return Tuned(base, model_folder(task.base, task.base, scratch, task.name), None)
    if not is_adapter(task.adapter):
        del base
        source = model_folder(task.base, task.adapter, scratch, task.name)
        return Tuned(load_model(source), source, None)
    before = [logits(base, row) for row in few]
    exact = exact_logits(base, task.adapter, few[0])
    task.go_on()
    adapted = _attached(base, task.adapter)
    apart = Apart(before, [logits(adapted, row) for row in few], exact)
    task.go_on()
    whole = merged(adapted, scratch / "weights")
    return Tuned(whole, model_folder(task.base, scratch / "weights", scratch, task.name), apart)


def merge_figures(task: Task, tuned: Tuned, few: "list[torch.Tensor]") -> dict[str, Any]:
    """Prove the merge from the files and, with `few` (the merged model's logits on the same rows), by what it predicts.

    Raises MergeInvalid.
    """
    if task.adapter is None:
        return {"method": "none"}
    if tuned.apart is None:
        return {"method": "full", **_counts(asdict(check_full(task.base, task.adapter)))}
    counts = _counts(asdict(check_merge(task.base, task.adapter, tuned.source)))
    effect = compare(zip(tuned.apart.base, tuned.apart.with_adapter, strict=True))
    found = compare(zip(tuned.apart.with_adapter, few, strict=False))
    figures = {"method": "adapter", **counts, "agreement": _figures(found), "adapterEffect": _figures(effect)}
    if tuned.apart.exact is None:
        check_agreement(found, effect)
        return figures
    exact = compare([(tuned.apart.with_adapter[0], tuned.apart.exact)])
    check_exact(exact)
    check_rounding(found, effect)
    return figures | {"exact": _figures(exact)}


def exact_logits(base: "torch.nn.Module", adapter: Path, row: list[int]) -> "torch.Tensor | None":
    """The logits of W + scale * B A in float32; None where the adapter is more than that."""
    with sums(adapter) as added:
        return None if added is None else logits(base, row, added)


def logits_without(model: "torch.nn.Module", adapter: Path, rows: list[list[int]]) -> "Iterator[torch.Tensor]":
    """The logits of each row by the merged model less a plain LoRA adapter's sums, taken away in float32."""
    with sums(adapter) as added:
        less = {name: partial(_negative, made) for name, made in (added or {}).items()}
        for row in rows:
            yield logits(model, row, less)


def _negative(made: "Callable[[], torch.Tensor]") -> "torch.Tensor":
    return -made()


def check_exact(exact: Agreement) -> None:
    """Raise MergeInvalid unless base plus adapter, before any rounding, predicts what both do apart."""
    missed = shortcomings(exact, EXACT)
    if missed:
        message = f"base plus adapter does not predict what both do apart, before any rounding: {'; '.join(missed)}"
        raise StageFailure(FailureClass.MERGE_INVALID, message)


def check_rounding(found: Agreement, effect: Agreement) -> None:
    """Raise MergeInvalid where rounding to bfloat16 takes too much of what the adapter does."""
    if not found.mean_kl <= max(ROUNDED_SHARE * effect.mean_kl, ROUNDING_KL):
        message = (
            f"rounding the merged weights to bfloat16 costs a KL divergence of {found.mean_kl:.2g}, "
            f"the adapter's own effect is {effect.mean_kl:.2g}"
        )
        raise StageFailure(FailureClass.MERGE_INVALID, message, _TOO_SMALL)


def check_agreement(found: Agreement, effect: Agreement) -> None:
    """Raise MergeInvalid unless merged and unmerged agree, measured against what the adapter changes."""
    missed = shortcomings(found, MERGED)
    if not found.mean_kl <= max(EFFECT_SHARE * effect.mean_kl, ROUNDING_KL):
        missed.append(f"their KL divergence is {found.mean_kl:.2g}, the adapter's own effect {effect.mean_kl:.2g}")
    if missed:
        where = f"at {found.positions} positions"
        message = f"{where} the merged model does not predict what base and adapter do: {'; '.join(missed)}"
        raise StageFailure(FailureClass.MERGE_INVALID, message)


def _attached(base: "torch.nn.Module", adapter: Path) -> "torch.nn.Module":
    from peft import PeftModel

    try:
        adapted: torch.nn.Module = PeftModel.from_pretrained(base, str(adapter), local_files_only=True)
    except (ValueError, RuntimeError, KeyError) as error:
        raise StageFailure(FailureClass.MERGE_INVALID, f"the adapter does not fit the base: {error}") from error
    return adapted.eval()


def _counts(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "tensors": found["tensors"],
        "changed": found["changed"],
        "targeted": found["targeted"],
        "roundedAway": found["rounded_away"],
        "largestDifferingShare": found["largest_differing_share"],
        "peculiarities": list(found["peculiarities"]),
    }


def _figures(found: Agreement) -> dict[str, Any]:
    return {"positions": found.positions, "sameTop": found.same_top, "klDivergence": found.mean_kl}
