"""From a 16-bit base and an adapter to merged weights, and the proof that they are base plus adapter and nothing else.

PEFT merges (P31: never into quantized weights); the proof is computed from the files alone, tensor by tensor in the
memory of one tensor, by the arithmetic of `lora`.
"""

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.conversion.lora import CONFIG, WEIGHTS, LoraModule, lora_modules, peculiarities
from tunesmith_trainer.parity.metadata import TIED_HEADS

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

# Of the elements of a merged weight at most this share may differ from our own sum, and then by one step of bfloat16:
# where products are summed in another order they may round differently. Measured on SmolLM2-135M: not one of 106
# million elements differs, while of a weight that was not merged more than half do.
DIFFERING_SHARE = 0.005


@dataclass(frozen=True, slots=True)
class MergeFigures:
    """What the comparison of the files showed: counts of tensors, and the largest share of differing elements.

    `targeted` is None for full fine-tuning and for adapters that are more than plain LoRA.
    """

    tensors: int
    changed: int
    targeted: int | None
    rounded_away: int
    largest_differing_share: float
    peculiarities: tuple[str, ...]


def adapter_config(adapter: Path) -> dict[str, Any]:
    """The adapter's configuration; raises MergeInvalid where it cannot be read."""
    try:
        config: dict[str, Any] = json.loads((adapter / CONFIG).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise StageFailure(FailureClass.MERGE_INVALID, f"the adapter has no readable {CONFIG}: {error}") from error
    return config


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter; else it holds full weights."""
    return (folder / CONFIG).is_file()


def merged(model: "torch.nn.Module", into: Path) -> "torch.nn.Module":
    """The base model that a `PeftModel` becomes when its adapter is added to its weights; saved to `into` as well.

    Raises MergeInvalid where a merged weight is not finite.
    """
    try:
        whole: torch.nn.Module = model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise StageFailure(FailureClass.MERGE_INVALID, f"the adapter cannot be merged: {error}") from error
    # Shards of 5 GB keep what a reader maps at once small.
    whole.save_pretrained(into, max_shard_size="5GB")
    return whole


def check_merge(base: Path, adapter: Path, result: Path) -> MergeFigures:
    """Prove that the weights in `result` are those of `base` with `adapter` added.

    Every adapted weight must equal, but for single steps of rounding, bfloat16(W + bfloat16(scale * B @ A)); every
    other weight must be the base's bit for bit (only counted where the adapter is more than plain LoRA); nothing may be
    missing, added, of another shape, or not finite; something must have changed. Raises MergeInvalid.
    """
    config = adapter_config(adapter)
    with _Weights(adapter / WEIGHTS) as deltas, _Weights(base) as before, _Weights(result) as after:
        peculiar = peculiarities(config, deltas.names)
        modules = {} if peculiar else {module.tensor: module for module in _modules(config, deltas)}
        if absent := sorted(set(modules) - set(before.names)):
            _refuse(f"the adapter is for {absent[0]}, which the base has not")
        changed = rounded_away = 0
        largest = 0.0
        for name, old, new in _pairs(before, after):
            differs = _differ(old, new)
            changed += differs
            if name in modules:
                share = _differing_share(name, old, new, _delta(modules[name], deltas))
                largest = max(largest, share)
                rounded_away += not differs
            elif differs and not peculiar:
                _refuse(f"{name} has changed, and the adapter does not touch it")
    if not changed:
        _refuse("merging has changed no weight at all: the adapter adds nothing")
    targeted = None if peculiar else len(modules)
    return MergeFigures(len(before.names), changed, targeted, rounded_away, largest, tuple(peculiar))


@contextmanager
def sums(adapter: Path) -> "Iterator[dict[str, Callable[[], torch.Tensor]] | None]":
    """What a plain LoRA adapter adds to which weight of the base, in float32, each made when it is called.

    None for an adapter that is more than that. Raises MergeInvalid where it is no whole adapter.
    """
    config = adapter_config(adapter)
    with _Weights(adapter / WEIGHTS) as deltas:
        if peculiarities(config, deltas.names):
            yield None
        else:
            yield {module.tensor: partial(_delta, module, deltas) for module in _modules(config, deltas)}


def check_full(base: Path, result: Path) -> MergeFigures:
    """Prove that fully fine-tuned weights are a changed form of `base`: same names and shapes, finite, not equal."""
    with _Weights(base) as before, _Weights(result) as after:
        changed = sum(_differ(old, new) for _, old, new in _pairs(before, after))
    if not changed:
        _refuse("training has changed no weight at all")
    return MergeFigures(len(before.names), changed, None, 0, 0.0, ())


def _pairs(before: "_Weights", after: "_Weights") -> Iterator[tuple[str, "torch.Tensor", "torch.Tensor"]]:
    """Every weight of the base and of the result as bfloat16, in which both become a GGUF."""
    import torch

    missing = [name for name in before.names if name not in after.names and name not in TIED_HEADS]
    added = [name for name in after.names if name not in before.names and name not in TIED_HEADS]
    if missing or added:
        _refuse(f"the merged model lacks {missing[:3]} and has {added[:3]} too much")
    for name in before.names:
        if name not in after.names:
            continue
        old, new = before.tensor(name), after.tensor(name)
        if old.shape != new.shape:
            _refuse(f"{name} has the shape {tuple(new.shape)}, the base's is {tuple(old.shape)}")
        # A sum is finite only if every number is: one pass instead of isfinite's three.
        if not math.isfinite(float(new.sum(dtype=torch.float32))):
            _refuse(f"{name} holds numbers that are not finite")
        yield name, old.to(torch.bfloat16), new.to(torch.bfloat16)


def _modules(config: Mapping[str, Any], deltas: "_Weights") -> tuple[LoraModule, ...]:
    ranks = {name: deltas.shape(name)[0 if ".lora_A." in name else 1] for name in deltas.names}
    modules = lora_modules(config, ranks)
    if not modules:
        _refuse("the adapter has no LoRA weights")
    return modules


def _delta(module: LoraModule, deltas: "_Weights") -> "torch.Tensor":
    return (deltas.tensor(module.b).float() @ deltas.tensor(module.a).float()) * module.scale


def _differing_share(name: str, old: "torch.Tensor", new: "torch.Tensor", delta: "torch.Tensor") -> float:
    """Share of elements that are not bfloat16(W + bfloat16(delta)); raises MergeInvalid where it is too large."""
    import torch

    expected = old + delta.to(torch.bfloat16)
    differing = expected != new
    share: float = int(differing.sum()) / differing.numel()
    if not share:
        return share
    # One step of bfloat16 is 2^-7 of a number's power of two; W and delta may cancel, so the larger of both counts.
    step = torch.maximum(old[differing].abs(), expected[differing].abs()).float() * 2**-7
    farthest = float(((expected[differing].float() - new[differing].float()).abs() - step).max())
    if share > DIFFERING_SHARE or farthest > 0:
        _refuse(f"{name} is not base plus adapter: {share:.1%} of its elements differ from the sum")
    return share


def _differ(old: "torch.Tensor", new: "torch.Tensor") -> bool:
    import torch

    same: bool = torch.equal(old.view(torch.int16), new.view(torch.int16))
    return not same


def _refuse(what: str) -> NoReturn:
    raise StageFailure(FailureClass.MERGE_INVALID, what)


class _Weights:
    """The tensors of one safetensors file or of all ``model*.safetensors`` in a folder, read one at a time."""

    def __init__(self, place: Path) -> None:
        self._paths = [place] if place.is_file() else sorted(place.glob("model*.safetensors"))
        if not self._paths:
            _refuse(f"there are no weights in {place.name}")

    def __enter__(self) -> Self:
        from safetensors import safe_open

        files: list[Any] = [safe_open(path, framework="pt") for path in self._paths]
        self._file_of: dict[str, Any] = {name: file for file in files for name in file.keys()}  # noqa: SIM118  # not a mapping
        self.names = sorted(self._file_of)
        return self

    def __exit__(self, *_: object) -> None:
        self._file_of = {}

    def tensor(self, name: str) -> "torch.Tensor":
        loaded: torch.Tensor = self._file_of[name].get_tensor(name)
        return loaded

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file_of[name].get_slice(name).get_shape())
