"""``make bench``: 'tunesmith run' against the same work by hand, in one run, as ratios.

Prints a table of seconds and ratios; docs/benchmarks.md keeps what was found. Nothing is asserted: a busy machine makes
no figure wrong, only worthless.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tunesmith.llama_cpp import find_tools

ROOT = Path(__file__).parents[1]
TYPES = ["Q4_K_M", "Q8_0"]
STEPS = 138


def job(types: list[str]) -> dict[str, object]:
    """The quickstart with these types, from the repository's files."""
    found = yaml.safe_load((ROOT / "examples" / "quickstart.yaml").read_text())
    spec = found["spec"]
    spec["model"]["source"] = f"file://{(ROOT / 'examples' / 'models' / 'SmolLM2-135M-Instruct').resolve()}"
    spec["datasets"][0]["source"] = f"file://{ROOT / 'examples' / 'data' / 'street-reports.jsonl'}"
    spec["training"]["maxSteps"] = STEPS
    spec["quantizations"] = types
    return dict(found)


def timed(command: list[str]) -> float:
    """Seconds that a command takes; its output is shown if it fails otherwise than by a gate."""
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(done.stdout + done.stderr)
    return time.monotonic() - began


def tunesmith(folder: Path, types: list[str]) -> float:
    """Seconds of one run over a store of its own in `folder`."""
    manifest = folder / "job.yaml"
    manifest.write_text(yaml.safe_dump(job(types)))
    store = str(folder / "store")
    program = str(Path(sys.executable).parent / "tunesmith")
    return timed([program, "run", str(manifest), "--output", str(folder / "out"), "--store", store])


def by_hand(folder: Path, texts: Path) -> float:
    """Seconds of the script of plain commands; gate and calibration text are those of the run."""
    model = (ROOT / "examples" / "models" / "SmolLM2-135M-Instruct").resolve()
    rows = ROOT / "examples" / "data" / "street-reports.jsonl"
    texts_of = [str(texts / name) for name in ("gate.txt", "calibration.txt")]
    tools = str(find_tools().folder)
    arguments = [str(model), str(rows), *texts_of, str(folder / "hand"), str(STEPS), tools, sys.executable]
    return timed([str(ROOT / "bench" / "by_hand.sh"), *arguments])


def main() -> None:
    """Run everything once and print the table."""
    folder = Path(tempfile.mkdtemp(prefix="tunesmith-bench-"))
    first = tunesmith(folder, TYPES)
    nothing = tunesmith(folder, TYPES)
    added = tunesmith(folder, [*TYPES, "Q6_K"])
    record = json.loads((folder / "out" / ".tunesmith" / "status.json").read_text())
    store = folder / "store" / "default"
    key = record["stages"]["prepare"]["keys"]["outputs"]["dataset"]
    attempt = json.loads((store / "artifacts" / "dataset" / key / "manifest.json").read_text())["attempt"]
    hand = by_hand(folder, store / "attempts" / attempt)
    speed = (folder / "hand" / "train.txt").read_text().split(":")[-1].strip()
    own = json.loads((folder / "out" / "report.json").read_text())["training"]["tokensPerSecond"]
    print("| what | seconds | ratio | goal |\n|---|---|---|---|")
    print(f"| by hand | {hand:.0f} | 1 | |")
    print(f"| tunesmith run | {first:.0f} | {first / hand:.2f} | 1.00 |")
    print(f"| one more quantization | {added:.0f} | {added / first:.2f} | 0.10 |")
    print(f"| nothing changed | {nothing:.1f} | {nothing / first:.3f} | 0.02 |")
    print(f"| tokens per second, {own:.0f} against {speed} | | {own / float(speed):.2f} | 1.0 |")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
