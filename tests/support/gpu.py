"""The GPU driver's own tool, as far as this project asks it; with a real one where a GPU is, in tests/gpu."""

from pathlib import Path

import pytest

from tunesmith.gpu import has_gpu

NO_GPU = pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")


def folder_with_nvidia_smi(folder: Path, answer: str) -> Path:
    """A folder for PATH whose nvidia-smi names these GPUs, one a line; "" for a driver without any."""
    folder.mkdir()
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{answer}'\n")
    tool.chmod(0o755)
    return folder
