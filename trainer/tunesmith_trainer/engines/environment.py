"""What libraries read from the environment when they are imported: set before torch and Unsloth are."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tunesmith_trainer.engines.host import threads

# Nothing here may reach the net: models are folders, and no library has to know that we train (P15).
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # A log is no terminal: bars would only repeat themselves in it.
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    # Progress goes through the frame; transformers would post by itself, and 100 % after an interruption too.
    "DISABLE_KUBEFLOW_INTEGRATION": "TRUE",
    # Forked workers of the tokenizers library would only warn: rows are tokens already.
    "TOKENIZERS_PARALLELISM": "false",
}
# Where they write what they compile or download; the home of a pod's user may be read-only (P14).
_CACHES = {
    "HF_HOME": "huggingface",
    "HF_DATASETS_CACHE": "datasets",
    "XDG_CACHE_HOME": "xdg",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "MPLCONFIGDIR": "matplotlib",
}


def environment(use_gpu: bool, scratch: Path, home_writable: bool) -> dict[str, str]:
    """The variables that training needs, whatever the process was started with."""
    caches = {} if home_writable else {name: str(scratch / "cache" / folder) for name, folder in _CACHES.items()}
    variables = {
        **_OFFLINE,
        **caches,
        "OMP_NUM_THREADS": str(threads()),
        "UNSLOTH_COMPILE_LOCATION": str(scratch / "cache" / "unsloth"),
    }
    if not use_gpu:
        # A GPU's driver shows in every container of its node: say that none is meant (P80).
        variables |= {"UNSLOTH_FORCE_CPU": "1", "CUDA_VISIBLE_DEVICES": ""}
    return variables


def prepare_process(use_gpu: bool, scratch: Path) -> Mapping[str, str]:
    """Set the variables for this process; call it before anything heavy is imported. Returns what was set."""
    variables = environment(use_gpu, scratch, _writable(Path.home()))
    os.environ.update(variables)
    return variables


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
