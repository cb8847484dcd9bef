"""The bench times work that was done: a tool that fails, or makes nothing and says that all is well, ends it."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"
TRAIN = """
import sys
from pathlib import Path
for name in ("adapter/adapter_model", "merged/model"):
    path = Path(sys.argv[3], name + ".safetensors")
    path.parent.mkdir()
    path.write_text("weights")
print("tokens per second: 1.0")
"""


@pytest.fixture(scope="module")
def run() -> ModuleType:
    """bench/run.py as a module."""
    spec = importlib.util.spec_from_file_location("bench_run", BENCH / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_only_a_run_of_tunesmith_may_end_with_a_gate_s_code(run: ModuleType) -> None:
    """What ends with 1 by hand has failed, and shows why."""
    command = [sys.executable, "-c", "import sys; sys.exit('no such file') if sys.argv[1:] else sys.exit(1)"]

    assert run.timed(command, accepted=(0, 1)) > 0
    with pytest.raises(SystemExit, match="ended with 1\nno such file"):
        run.timed([*command, "aloud"])


def test_a_file_that_was_not_made_ends_the_script(tmp_path: Path) -> None:
    """Here the converter does nothing, well."""
    for folder in ("model", "llama/convert"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("model/tokenizer.json", "llama/convert/convert_hf_to_gguf.py"):
        (tmp_path / name).touch()
    (tmp_path / "train.py").write_text(TRAIN)
    places = [tmp_path / name for name in ("model", "rows.jsonl", "gate.txt", "calibration.txt", "out", "llama")]
    call = [BENCH / "by_hand.sh", *places, sys.executable, tmp_path / "train.py", "4", "4", "1"]
    ended = subprocess.run(call, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert f"{tmp_path}/out/bf16.gguf was not made" in ended.stderr
    assert (tmp_path / "out" / "speed.txt").read_text() == "tokens per second: 1.0\n"
