"""Training over 4-bit weights on a CPU: whether bitsandbytes really can, and what has to be switched off in it."""

from typing import Any

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.engines.precision import Device

# Any layer will do that is wider than bitsandbytes' block of 64.
_PROBE = (64, 128)


def probe_nf4(device: Device, dtype: Any) -> None:
    """Run one NF4 layer forward and backward; raises ToolsMissing if it does not work here.

    bitsandbytes puts raising stubs in the place of native code that it cannot load, so only a call proves it (P76).
    """
    try:
        works = _gradients_flow(device, dtype)
    except Exception as error:  # a broken native library can raise anything
        raise _unusable(str(error)) from error
    if not works:
        raise _unusable("its gradients are not finite")


def _gradients_flow(device: Device, dtype: Any) -> bool:
    import bitsandbytes
    import torch

    outputs, inputs = _PROBE
    layer = bitsandbytes.nn.Linear4bit(inputs, outputs, bias=False, compute_dtype=dtype, quant_type="nf4")
    layer = layer.to(device.value)
    values = torch.ones(2, inputs, dtype=dtype, device=device.value, requires_grad=True)
    result = layer(values)
    result.float().sum().backward()
    return bool(torch.isfinite(result).all()) and values.grad is not None and bool(torch.isfinite(values.grad).all())


def _unusable(why: str) -> StageFailure:
    return StageFailure(
        FailureClass.TOOLS_MISSING,
        f"bitsandbytes cannot train in 4 bits on this machine: {why}",
        "Use training.method: LoRA, or another machine.",
    )


def disable_weight_packing(model: Any) -> int:
    """Keep every 4-bit layer in the layout that it can be trained in; returns how many layers there are.

    With AVX512-BF16 bitsandbytes 0.50 repacks a layer's weights in the first evaluation, for good, and all gradients
    after it are wrong, without an error (P75).
    """
    layers = [module for module in model.modules() if hasattr(module, "support_avx512bf16_for_cpu")]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)


def is_quantized(model: Any) -> bool:
    """Whether any layer really is in 4 bits."""
    return any(type(module).__name__ == "Linear4bit" for module in model.modules())
