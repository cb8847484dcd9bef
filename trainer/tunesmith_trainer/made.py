"""What made an artifact: versions, processor and time, for its manifest."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tunesmith_api.stages import Stage

# The packages whose version can change what a stage makes.
_PACKAGES = {
    Stage.PREPARE: ("transformers", "tokenizers", "pyarrow"),
    Stage.TRAIN: ("torch", "transformers", "peft", "trl", "unsloth", "bitsandbytes"),
    Stage.CONVERT: ("torch", "transformers", "peft", "gguf"),
}


def made_by(stage: Stage) -> dict[str, object]:
    """Versions by package name, the image where there is one, the processor and the time (UTC)."""
    return {
        "tunesmith": _version("tunesmith"),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES.get(stage, ())},
        "image": os.environ.get("TUNESMITH_IMAGE"),
        "host": {"cpu": _processor(), "cores": os.cpu_count(), "system": platform.platform(terse=True)},
        "time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
