"""Which device trains: a GPU that was asked for, one that happens to be there and works, or the CPU."""

import logging
import subprocess
import sys

from tunesmith.memory import available_memory
from tunesmith.processor import cpu_flags, native_bf16
from tunesmith_api.execution import TrainExecution
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.training import GPU_SHOWN_SHARE
from tunesmith_trainer.engines.precision import Device

log = logging.getLogger(__name__)


def wants_gpu(execution: TrainExecution) -> bool:
    """Whether to go for a GPU, known before anything heavy is imported: that would fix the choice (P80).

    One that nobody asked for is tried in a process of its own: a device file without a driver that works, or a torch
    without CUDA, is no GPU.
    """
    if not execution.use_gpu or execution.gpu_required:
        return execution.use_gpu
    tried = subprocess.run(
        [sys.executable, "-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"],
        capture_output=True,
        check=False,
    )
    if tried.returncode:
        log.warning("this machine has a GPU that torch cannot use: training on the CPU")
    return not tried.returncode


def find_device(execution: TrainExecution) -> tuple[Device, bool]:
    """The device, and whether it multiplies bf16 in hardware; raises Unschedulable for a GPU that is not there."""
    if not execution.use_gpu:
        return Device.CPU, native_bf16(cpu_flags())
    import torch

    if not torch.cuda.is_available():
        message = "training asks for a GPU, and torch finds none on this machine"
        raise StageFailure(FailureClass.UNSCHEDULABLE, message, "Check the GPU's driver, or leave out training.gpu.")
    found = torch.cuda.get_device_properties(0)
    if lack := shortfall(execution, found.name, found.total_memory):
        raise StageFailure(FailureClass.UNSCHEDULABLE, lack, "Run it where such a GPU is, or change training.gpu.")
    return Device.CUDA, bool(torch.cuda.is_bf16_supported(including_emulation=False))


def shortfall(execution: TrainExecution, name: str, memory_bytes: int) -> str | None:
    """What a GPU lacks of what was asked for, or None; NVIDIA's feature discovery writes names with dashes."""
    product, memory = execution.gpu_product, execution.gpu_memory_bytes
    if product is not None and name.replace(" ", "-") != product:
        return f"training asks for a GPU {product}, and this one is a {name.replace(' ', '-')}"
    if memory is not None and memory_bytes < memory * GPU_SHOWN_SHARE:
        return f"training asks for a GPU of {memory / 2**30:.1f} GiB, and this {name} has {memory_bytes / 2**30:.1f}"
    return None


def free_memory(device: Device) -> int:
    """Bytes that training may take on its device."""
    if device is Device.CPU:
        return available_memory()
    import torch

    return int(torch.cuda.mem_get_info()[0])
