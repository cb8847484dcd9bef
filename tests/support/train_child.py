"""One or more trainings in a process of their own, for what patches the whole process or is killed: JSON in, JSON out.

python -m support.train_child CALLS.json RESULTS.json, where CALLS is a list of {"base", "dataset", "scratch",
"settings", "execution", "adapter", "checkpoints", "killAt", "interruptAt", "gpuMemory"}: `adapter` is what training
goes on from; with `killAt` the process kills itself as soon as the checkpoint of that step is stored, with
`interruptAt` it is asked to stop when that step is told, and the result is what it said; `gpuMemory` are the bytes of
a GPU that it may take from then on.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from support.training import FolderCheckpoints, InterruptAt, train_settings, train_work
from tunesmith_api.failures import StageFailure
from tunesmith_api.stages import Kind
from tunesmith_trainer.train import run


def main() -> None:
    calls, results = Path(sys.argv[1]), Path(sys.argv[2])
    results.write_text(json.dumps([train(call) for call in json.loads(calls.read_text())]))


def train(call: dict[str, Any]) -> dict[str, Any]:
    inputs = {Kind.BASE: Path(call["base"]), Kind.DATASET: Path(call["dataset"])}
    if "adapter" in call:
        inputs[Kind.ADAPTER] = Path(call["adapter"])
    if "gpuMemory" in call:
        limit_gpu(call["gpuMemory"])
    checkpoints = None
    if "checkpoints" in call:
        checkpoints = FolderCheckpoints(
            Path(call["checkpoints"]), after_save=lambda step: kill(step, call.get("killAt"))
        )
    settings = train_settings(**call["settings"])
    asked = InterruptAt(call["interruptAt"]).named() if "interruptAt" in call else {}
    work = train_work(inputs, Path(call["scratch"]), settings, call.get("execution"), checkpoints=checkpoints, **asked)
    try:
        outcome = run(work)
    except StageFailure as failure:
        if "interruptAt" not in call:
            raise
        return {"failure": failure.failure.value, "message": failure.message}
    folder = outcome.outputs[Kind.ADAPTER].folder
    return {"folder": str(folder), "figures": json.loads((folder / "figures.json").read_text())}


def limit_gpu(memory_bytes: int) -> None:
    import torch

    torch.cuda.set_per_process_memory_fraction(memory_bytes / torch.cuda.get_device_properties(0).total_memory)


def kill(step: int, at: int | None) -> None:
    if step == at:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
