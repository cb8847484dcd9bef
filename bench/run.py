"""``make bench``: 'tunesmith run' against the same work by hand, in one run, as ratios.

usage: run.py [Transformers | Unsloth]

Prints a table of seconds and ratios; docs/benchmarks.md keeps what was found. Nothing is asserted of the figures: a
busy machine makes none wrong, only worthless. How fast it was before and after each part stands beside them: a virtual
machine's speed was seen to fall to a third within the hour.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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


def machine_speed() -> float:
    """GFLOP/s of matrix products in fp32 on all cores, measured for a second."""
    side = 1024
    matrix = np.ones((side, side), dtype=np.float32)
    began, products = time.monotonic(), 0
    while time.monotonic() - began < 1:
        matrix @ matrix
        products += 1
    return products * 2 * side**3 / (time.monotonic() - began) / 1e9


@dataclass(frozen=True)
class Part:
    """What a part of the bench took, and the machine's speed before and after it."""

    seconds: float
    speeds: tuple[float, float]

    @classmethod
    def of(cls, work: Callable[[], float]) -> "Part":
        """Do it between two looks at the machine."""
        before = machine_speed()
        return cls(work(), (before, machine_speed()))

    def row(self, what: str, of: "Part", goal: str) -> str:
        """Its line of the table, as a ratio of another part."""
        speeds = " to ".join(f"{speed:.0f}" for speed in self.speeds)
        return f"| {what} | {self.seconds:.1f} | {self.seconds / of.seconds:.3f} | {goal} | {speeds} |"


def main() -> None:
    """Run everything once and print the table."""
    bench = Bench(Path(tempfile.mkdtemp(prefix="tunesmith-bench-")), sys.argv[1] if sys.argv[1:] else "Transformers")
    first = Part.of(lambda: bench.tunesmith(TYPES))
    nothing = Part.of(lambda: bench.tunesmith(TYPES))
    added = Part.of(lambda: bench.tunesmith([*TYPES, "Q6_K"]))
    hand = Part.of(bench.by_hand)
    speed = float((bench.folder / "hand" / "speed.txt").read_text().split(":")[-1])
    own = json.loads((bench.folder / "out" / "report.json").read_text())["training"]["tokensPerSecond"]
    print("| what | seconds | ratio | goal | machine, GFLOP/s |\n|---|---|---|---|---|")
    print(hand.row("by hand", hand, ""))
    print(first.row("tunesmith run", hand, "1.00"))
    print(added.row("one more quantization", first, "0.10"))
    print(nothing.row("nothing changed", first, "0.02"))
    print(f"| tokens per second, {own:.0f} against {speed:.0f} | | {own / speed:.2f} | 1.0 | |")
    shutil.rmtree(bench.folder)


if __name__ == "__main__":
    main()
