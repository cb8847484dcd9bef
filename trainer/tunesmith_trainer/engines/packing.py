"""Whether this model keeps rows apart that lie in one sequence: asked of the model itself, once it is loaded."""

from typing import Any

from tunesmith_trainer.engines.collate import Collator
from tunesmith_trainer.engines.job import TrainingJob

# The first tokens of a row differ most between seeing nothing before them and seeing another row.
_POSITIONS = 8
# KL divergence in nats. Rounding in bf16 gives 0.004 and less (measured, merged against base and adapter); a row that
# sees the one before it predicts its first tokens quite differently.
_TOLERANCE = 0.05


def packing_is_exact(job: TrainingJob, model: Any) -> bool:
    """Whether a row's predictions are the same alone and behind another row, as position ids alone should make them.

    True with transformers' own attention; an engine's own kernels may know nothing of it (P7, P79).
    """
    import torch

    if len(job.train) == 1:
        return True
    rows = job.train.table.slice(0, 2).to_pylist()
    collator = Collator(job.pad_id, flatten=True)
    start, stop = job.train.lengths[0], job.train.lengths[0] + min(_POSITIONS, job.train.lengths[1])
    model.eval()
    with torch.no_grad(), torch.autocast(job.device.value, torch.bfloat16, enabled=job.precision.autocast):
        alone = _log_probabilities(model, collator([rows[1]]), 0, stop - start)
        packed = _log_probabilities(model, collator(rows), start, stop)
    divergence = (alone.exp() * (alone - packed)).sum(dim=-1)
    return bool(divergence.max() < _TOLERANCE)


def _log_probabilities(model: Any, batch: dict[str, Any], start: int, stop: int) -> Any:
    inputs = {name: tensor.to(model.device) for name, tensor in batch.items() if name != "labels"}
    return model(**inputs).logits[0, start:stop].float().log_softmax(dim=-1)
