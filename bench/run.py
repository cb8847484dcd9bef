"""``make bench``: 'tunesmith run' against the same work by hand, in one run, as ratios.

usage: run.py [Transformers | Unsloth]

Prints a table of seconds and ratios; docs/benchmarks.md keeps what was found. Nothing is asserted of the figures: a
busy machine makes none wrong, only worthless.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunesmith.llama_cpp import find_tools

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples" / "models" / "SmolLM2-135M-Instruct"
ROWS = ROOT / "examples" / "data" / "street-reports.jsonl"
TYPES = ["Q4_K_M", "Q8_0"]
STEPS = 92
SCRIPTS = {"Transformers": "train_by_hand.py", "Unsloth": "train_by_hand_unsloth.py"}


@dataclass(frozen=True)
class Bench:
    """One comparison: everything of it lies below `folder`."""

    folder: Path
    engine: str

    def job(self, types: list[str]) -> dict[str, Any]:
        """The quickstart with these types, from the repository's files."""
        found: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "quickstart.yaml").read_text())
        spec = found["spec"]
        spec["model"]["source"] = f"file://{MODEL.resolve()}"
        spec["datasets"][0]["source"] = f"file://{ROWS}"
        spec["training"] |= {"maxSteps": STEPS, "engine": self.engine}
        spec["quantizations"] = types
        return found

    def tunesmith(self, types: list[str]) -> float:
        """Seconds of one run over a store of its own."""
        manifest = self.folder / "job.yaml"
        manifest.write_text(yaml.safe_dump(self.job(types)))
        program = str(Path(sys.executable).parent / "tunesmith")
        call = [program, "run", str(manifest), "--output", str(self.folder / "out")]
        # A gate that a file does not pass ends it with 1, after all is done.
        seconds = timed([*call, "--store", str(self.folder / "store")], accepted=(0, 1))
        failure = self.record().get("failure") or {}
        if failure.get("class") not in (None, "GateFailed"):
            sys.exit(f"tunesmith run: {failure['class']}: {failure['message']}")
        return seconds

    def record(self) -> dict[str, Any]:
        """What the output folder knows of its job."""
        return dict(json.loads((self.folder / "out" / ".tunesmith" / "status.json").read_text()))

    def by_hand(self) -> float:
        """Seconds of the script of plain commands, with the run's own texts, rows and number of evaluations."""
        prepared = self.record()["stages"]["prepare"]
        store = self.folder / "store" / "default"
        key = prepared["keys"]["outputs"]["dataset"]
        attempt = json.loads((store / "artifacts" / "dataset" / key / "manifest.json").read_text())["attempt"]
        texts = [str(store / "attempts" / attempt / name) for name in ("gate.txt", "calibration.txt")]
        rows = prepared["result"]["figures"]
        log = (self.folder / "out" / "training-log.jsonl").read_text().splitlines()
        evaluations = sum("evalLoss" in json.loads(line) for line in log)
        script = str(ROOT / "bench" / SCRIPTS[self.engine])
        places = [str(MODEL.resolve()), str(ROWS), *texts, str(self.folder / "hand"), str(find_tools().folder)]
        spec = self.job(TYPES)["spec"]
        batch = spec["training"]["effectiveBatchSize"]
        numbers = [str(number) for number in (STEPS, batch, rows["trainRows"], rows["evalRows"], evaluations)]
        chunks = [str(spec[section]["chunks"]) for section in ("imatrix", "evaluation")]
        return timed([str(ROOT / "bench" / "by_hand.sh"), *places, sys.executable, script, *chunks, *numbers])


def timed(command: list[str], accepted: Collection[int] = (0,)) -> float:
    """Seconds that a command takes; with another exit code than those accepted its output is shown, and all ends."""
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in accepted:
        sys.exit(f"{command[0]} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return time.monotonic() - began


def main() -> None:
    """Run everything once and print the table."""
    bench = Bench(Path(tempfile.mkdtemp(prefix="tunesmith-bench-")), sys.argv[1] if sys.argv[1:] else "Transformers")
    first = bench.tunesmith(TYPES)
    nothing = bench.tunesmith(TYPES)
    added = bench.tunesmith([*TYPES, "Q6_K"])
    hand = bench.by_hand()
    speed = float((bench.folder / "hand" / "speed.txt").read_text().split(":")[-1])
    own = json.loads((bench.folder / "out" / "report.json").read_text())["training"]["tokensPerSecond"]
    print("| what | seconds | ratio | goal |\n|---|---|---|---|")
    print(f"| by hand | {hand:.0f} | 1 | |")
    print(f"| tunesmith run | {first:.0f} | {first / hand:.2f} | 1.00 |")
    print(f"| one more quantization | {added:.0f} | {added / first:.2f} | 0.10 |")
    print(f"| nothing changed | {nothing:.1f} | {nothing / first:.3f} | 0.02 |")
    print(f"| tokens per second, {own:.0f} against {speed:.0f} | | {own / speed:.2f} | 1.0 |")
    shutil.rmtree(bench.folder)


if __name__ == "__main__":
    main()
