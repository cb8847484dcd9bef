"""From base and adapter to the tuned model as transformers has it, with its weights on disk and the merge proven."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.cores import usable_cores
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.base_model import caps_attention, read_json
from tunesmith_trainer.conversion.merge import check_full, check_merge, is_adapter, merged
from tunesmith_trainer.conversion.model_folder import model_folder
from tunesmith_trainer.conversion.task import Task
from tunesmith_trainer.parity.forward import logits
from tunesmith_trainer.parity.logits import Agreement, Tolerance, compare, shortcomings

if TYPE_CHECKING:
    import torch

# Merged weights are rounded to bfloat16: measured divergences are 0.0001 for a trained adapter and up to 0.0064 for one
# of few steps, whose changes are small against the weights' last bit; unmerged it is the adapter's whole effect, 0.12
# and more. Equal top tokens were 0.943 to 0.997 for right merges, 0.84 at most unmerged; of 256 positions such a share
# has a standard error of 1.5 points. What the weights are is proven bit by bit (`check_merge`); this is what they do
# (docs/decisions/0007-merge-tolerances.md).
MERGED = Tolerance(same_top=0.9, mean_kl=0.02)
# A merge may differ from base and adapter apart by this share of what the adapter does (decision 0007) ...
EFFECT_SHARE = 0.05
# ... but rounding merged weights to bfloat16 alone makes 0.0001 (measured), all that a nearly untrained adapter does.
ROUNDING_KL = 0.0005


@dataclass(frozen=True, slots=True)
class Apart:
    """Logits on a few rows before the merge: of the base, and of base and adapter side by side."""

    base: "list[torch.Tensor]"
    with_adapter: "list[torch.Tensor]"


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
    task.go_on()
    adapted = _attached(base, task.adapter)
    apart = Apart(before, [logits(adapted, row) for row in few])
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
    check_agreement(found, effect)
    return {"method": "adapter", **counts, "agreement": _figures(found), "adapterEffect": _figures(effect)}


def check_agreement(found: Agreement, effect: Agreement) -> None:
    """Raise MergeInvalid unless merged and unmerged agree, measured against what the adapter changes."""
    missed = shortcomings(found, MERGED)
    allowed = max(EFFECT_SHARE * effect.mean_kl, ROUNDING_KL)
    if not found.mean_kl <= allowed:
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
