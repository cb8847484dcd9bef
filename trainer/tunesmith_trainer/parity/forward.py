"""From a transformers model in 16 bits and token ids to its logits, computed in float32.

A forward pass in bfloat16 differs from one in float32 by a KL divergence of 0.0016 (measured), twenty times what a
right GGUF differs by: only float32 tells a right conversion from a slightly wrong one. Weights stay in 16 bits in
memory and are widened one module at a time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


# What is to be added to a weight of a module, by the parameter's whole name; made when it is needed.
Added = Mapping[str, Callable[[], "torch.Tensor"]]


@contextmanager
def in_float32(model: "torch.nn.Module", added: Added) -> Iterator[None]:
    """Within it, every module of `model` computes in float32 from weights that are still stored as they were.

    What is `added` to a weight is added in float32, and so is never rounded to what the weight is stored in.
    """
    hooks = []
    for name, module in model.named_modules():
        if next(_own(module), None) is not None:
            own = {key: added[f"{name}.{key}"] for key, _ in _own(module) if f"{name}.{key}" in added}
            widen = partial(_widen, own)
            hooks += [module.register_forward_pre_hook(widen), module.register_forward_hook(_narrow, always_call=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def logits(model: "torch.nn.Module", ids: Sequence[int], added: Added | None = None) -> "torch.Tensor":
    """Logits of the next token after each of `ids`, one sequence: float32 of shape (len(ids), vocabulary)."""
    import torch

    with torch.inference_mode(), in_float32(model, added or {}):
        result: torch.Tensor = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
    return result.float()


def _own(module: "torch.nn.Module") -> "Iterator[tuple[str, torch.nn.Parameter]]":
    yield from module.named_parameters(recurse=False)


def _widen(added: Added, module: "torch.nn.Module", inputs: Any) -> None:
    del inputs
    stored = {}
    for name, parameter in _own(module):
        stored[name] = parameter.data
        wide = parameter.data.float()
        parameter.data = wide + added[name]() if name in added else wide
    module._stored_weights = stored  # noqa: SLF001  # put back by _narrow


def _narrow(module: "torch.nn.Module", inputs: Any, output: Any) -> None:
    del inputs, output
    for name, parameter in _own(module):
        parameter.data = module._stored_weights[name]  # noqa: SLF001  # put there by _widen
