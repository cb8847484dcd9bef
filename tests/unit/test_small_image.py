"""The stages of the small image need neither torch nor transformers nor tokenizers."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "tokenizers", "safetensors", "peft", "datasets")


@pytest.mark.parametrize("stage", ["imatrix", "baseline", "quantize", "evaluate", "publish"])
def test_a_stage_after_convert_is_imported_without_the_training_stack(stage: str) -> None:
    """None of the heavy packages can be imported there, as in an image that lacks them."""
    absent = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r}))"
    code = f"{absent}; import tunesmith_trainer.{stage} as stage; stage.run"

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
