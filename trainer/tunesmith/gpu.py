"""Whether this machine has an NVIDIA GPU: the driver's own tool is asked, which knows of it under WSL2 too."""

import subprocess
from pathlib import Path

# A driver that answers at all does so within a second or two; one that wakes its GPUs first takes longer.
_SECONDS = 60


def nvidia_smi() -> str | None:
    """Name, MiB and driver version of each GPU, one a line; None where there is no driver."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        run = subprocess.run(query, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout if run.returncode == 0 else None


def has_gpu() -> bool:
    """Whether there is a GPU to try: its device file (a container may lack the tool), or one that the driver names.

    WSL2 has no such files (NVIDIA's user guide for CUDA on WSL: the driver is reached through /dev/dxg).
    """
    return Path("/dev/nvidia0").exists() or bool((nvidia_smi() or "").strip())
