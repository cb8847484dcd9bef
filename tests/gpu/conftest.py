"""Tests in this folder need a CUDA device and are skipped, in one clear line, where there is none."""

import shutil
import subprocess

import pytest


def _gpu() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], check=False, capture_output=True).returncode == 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Asked of the driver, so that collecting needs no torch."""
    if _gpu():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and nvidia-smi finds none here"))
