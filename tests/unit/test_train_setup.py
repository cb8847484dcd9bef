"""Before the first step: what is imported first, how the model is computed, what the trainer is told."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from support.training import train_settings, train_work, training_job
from tunesmith.local.listener import ProgressListener
from tunesmith.local.processes import TOKEN, start
from tunesmith.store import Artifacts, FolderStore
from tunesmith_api.execution import TrainExecution
from tunesmith_api.failures import FAILURES, FailureClass, StageFailure
from tunesmith_api.progress import ProgressReport
from tunesmith_api.stages import ArtifactReference, Kind, ProgressEndpoint, StageRequest, StoreLocation
from tunesmith_trainer.engines import engine_of
from tunesmith_trainer.engines.arguments import training_arguments
from tunesmith_trainer.engines.batching import Batching
from tunesmith_trainer.engines.precision import Device, Precision
from tunesmith_trainer.engines.unsloth_engine import UnslothEngine
from tunesmith_trainer.train import prepare_job

TESTS = Path(__file__).parents[1]
CONFIG = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 10}
# Runs the stage until it imports one of the libraries that Unsloth patches, or Unsloth, and says which it was.
FIRST_IMPORT = """
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from support.training import train_settings, train_work
from tunesmith_api.stages import Kind
from tunesmith_trainer.train import run

class Watching(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("unsloth", "transformers", "trl", "peft"):
            raise SystemExit(name)

sys.meta_path.insert(0, Watching())
folder = Path(sys.argv[1])
inputs = {Kind.BASE: folder / "base", Kind.DATASET: folder / "dataset"}
run(train_work(inputs, folder / "scratch", train_settings(engine="Unsloth")))
"""


@pytest.fixture
def inputs(tmp_path: Path) -> dict[Kind, Path]:
    """A model's description without weights and one row: as much as is read before anything heavy is imported."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folders = {Kind.BASE: tmp_path / "base", Kind.DATASET: tmp_path / "dataset"}
    for folder in folders.values():
        folder.mkdir()
    describe(folders[Kind.BASE])
    row = pa.table(
        {"input_ids": pa.array([[1, 2]], pa.list_(pa.int32())), "mask": pa.array([[0, 1]], pa.list_(pa.uint8()))}
    )
    for part in ("train", "eval"):
        pq.write_table(row, folders[Kind.DATASET] / f"{part}.parquet")
    (folders[Kind.DATASET] / "figures.json").write_text('{"padId": 0}')
    return folders


def describe(base: Path, **changes: Any) -> None:
    (base / "config.json").write_text(json.dumps(CONFIG | changes))


@pytest.mark.usefixtures("inputs")
def test_unsloth_is_imported_before_what_it_patches(tmp_path: Path) -> None:
    """P16: libraries that were imported before it keep their own functions, and it only prints a warning."""
    child = subprocess.run(
        [sys.executable, "-c", FIRST_IMPORT, tmp_path], cwd=TESTS, check=False, capture_output=True, text=True
    )

    assert child.stderr.splitlines()[-1] == "unsloth"


def gpu_loader_parameters() -> set[str]:
    """What Unsloth's loader for GPUs takes by name, read from its source: importing it needs a GPU."""
    found = importlib.util.find_spec("unsloth")
    if found is None or found.origin is None:
        pytest.skip("needs the trainer's packages")
    tree = ast.parse(Path(found.origin).with_name("models").joinpath("loader.py").read_text())
    loader = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "FastLanguageModel")
    load = next(node for node in loader.body if isinstance(node, ast.FunctionDef) and node.name == "from_pretrained")
    return {argument.arg for argument in (*load.args.args, *load.args.kwonlyargs)}


def test_unsloth_is_told_to_load_this_base_and_no_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P15: what is said to Unsloth on a GPU, and that it knows these words; not what it then does.

    Only its loader for GPUs exchanges names, and what that does not know it takes without a word.
    """
    known, told = gpu_loader_parameters(), {}

    def from_pretrained(**options: Any) -> None:
        told.update(options)
        raise OSError("nothing to load here")

    loader = SimpleNamespace(from_pretrained=from_pretrained)
    monkeypatch.setitem(sys.modules, "unsloth", SimpleNamespace(FastLanguageModel=loader))
    with pytest.raises(StageFailure, match="nothing to load here"):
        UnslothEngine().load(training_job(base=tmp_path, device=Device.CUDA))

    assert (told["model_name"], told["use_exact_model_name"]) == (str(tmp_path), True)
    assert told.keys() <= known


def test_a_signal_while_the_model_loads_ends_training_at_once(inputs: dict[Kind, Path], tmp_path: Path) -> None:
    """There is nothing to save yet; a model that cannot be loaded (its weights are missing) is never come to."""
    pytest.importorskip("torch", reason="needs the trainer's packages")
    reports: SimpleQueue[ProgressReport] = SimpleQueue()
    listener = ProgressListener(reports.put)
    listener.start()
    request = stored_request(inputs, tmp_path / "store", listener.endpoint("train", tmp_path / TOKEN))
    stage = start("train", request, tmp_path / "scratch", {})
    try:
        while reports.get(timeout=60).metrics != {"phase": "loading"}:
            pass  # its inputs are fetched
        stage.ask_to_stop()
        failure = stage.result().failure
    finally:
        stage.kill()
        listener.close()

    assert failure is not None
    assert (failure.failure, failure.message) == (FailureClass.INTERRUPTED, "train was asked to stop")
    assert stage.process.returncode == FAILURES[FailureClass.INTERRUPTED].exit_code


def stored_request(inputs: dict[Kind, Path], store: Path, progress: ProgressEndpoint) -> StageRequest:
    """A call of `train` whose inputs are in a store, with a key for each kind."""
    artifacts = Artifacts(FolderStore(store), "default")
    for kind, folder in inputs.items():
        artifacts.commit(kind, f"key-of-{kind}", folder)
    call = train_work({}, store, train_settings()).request
    changes = {
        "store": StoreLocation(uri=str(store)),
        "inputs": tuple(ArtifactReference(kind=kind, key=f"key-of-{kind}") for kind in inputs),
        "outputs": (ArtifactReference(kind=Kind.ADAPTER, key="key-of-adapter"),),
        "progress": progress,
    }
    return call.model_copy(update=changes)


@pytest.mark.parametrize(
    ("config", "packing", "expected"),
    [
        pytest.param({"attn_logit_softcapping": 50.0}, False, "eager", id="capped"),
        pytest.param({"attn_logit_softcapping": 50.0}, True, "eager", id="capped, rows in one sequence"),
        pytest.param({"text_config": CONFIG | {"attn_logit_softcapping": 50.0}}, False, "eager", id="capped within"),
        pytest.param({"attn_logit_softcapping": None}, True, "sdpa", id="not capped"),
    ],
)
def test_attention_scores_that_have_a_limit_keep_it(
    inputs: dict[Kind, Path], tmp_path: Path, config: dict[str, Any], packing: bool, expected: str
) -> None:
    """P20: fused attention would train Gemma 2 as if its scores had no limit."""
    pytest.importorskip("torch", reason="needs the trainer's packages")
    describe(inputs[Kind.BASE], **config)
    settings = train_settings(packing=packing)
    work = train_work(inputs, tmp_path / "scratch", settings)

    job = prepare_job(work, settings, TrainExecution(), engine_of(settings.engine))

    assert job.attention == expected


def test_a_cpu_is_not_taken_for_a_gpu_with_bf16() -> None:
    """P22: the trainer is told what computes and in what, since TRL's own default is bf16 whatever the machine."""
    arguments = training_arguments(training_job(device=Device.CPU, precision=Precision("float32")))

    assert {name: arguments[name] for name in ("use_cpu", "bf16", "fp16")} == {
        "use_cpu": True,
        "bf16": False,
        "fp16": False,
    }
    assert training_arguments(training_job(device=Device.CUDA, precision=Precision("bfloat16", autocast=True)))["bf16"]


def test_recomputed_layers_get_their_gradient() -> None:
    """P21: behind frozen layers torch's older way of recomputing gives adapters no gradient."""
    arguments = training_arguments(training_job(batching=Batching(1, 1, checkpointing=True)))

    assert arguments["gradient_checkpointing"] is True
    assert arguments["gradient_checkpointing_kwargs"] == {"use_reentrant": False}


@pytest.mark.parametrize(
    ("ratio", "steps", "expected"),
    [
        pytest.param(0.0, 100, 0, id="none"),
        pytest.param(0.03, 100, 3, id="a share"),
        pytest.param(0.001, 100, 1, id="rounded up"),
        pytest.param(0.995, 100, 100, id="rounded up to all"),
        pytest.param(1.0, 100, 100, id="all of them, not one"),
    ],
)
def test_the_learning_rate_rises_for_its_share_of_the_steps(ratio: float, steps: int, expected: int) -> None:
    """A number of steps, for transformers takes what is below one for a share and all else for a number."""
    job = training_job(settings=train_settings(warmup_ratio=ratio), total_steps=steps)

    assert training_arguments(job)["warmup_steps"] == expected


def test_weight_decay_reaches_the_optimizer() -> None:
    """As the manifest says, not as a library's default."""
    assert training_arguments(training_job(settings=train_settings(weight_decay=0.07)))["weight_decay"] == 0.07
