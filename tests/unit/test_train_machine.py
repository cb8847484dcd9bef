"""What training makes of the machine: precision, threads, batches, environment."""

from decimal import Decimal
from pathlib import Path

import pytest

from tunesmith.cores import cpu_quota, usable_cores
from tunesmith.memory import available_memory, memory_limit
from tunesmith.processor import cpu_flags, native_bf16
from tunesmith_api.execution import TrainExecution
from tunesmith_api.failures import StageFailure
from tunesmith_api.placement import quantity_number
from tunesmith_api.training import Method, Optimizer
from tunesmith_trainer.engines.arguments import optimizer
from tunesmith_trainer.engines.batching import Batching, Limits, ModelShape, batching, row_bytes
from tunesmith_trainer.engines.device import find_device, shortfall, wants_gpu
from tunesmith_trainer.engines.environment import environment
from tunesmith_trainer.engines.host import threads
from tunesmith_trainer.engines.precision import Device, Precision, attention, precision

SMALL = ModelShape(hidden=576, layers=30, heads=9, vocabulary=49152)


@pytest.mark.parametrize(
    ("flags", "machine", "expected"),
    [
        pytest.param({"avx2", "avx512f"}, "x86_64", False, id="P77: emulated bf16 is many times slower"),
        pytest.param({"avx512_bf16"}, "x86_64", True, id="AVX512"),
        pytest.param({"amx_bf16"}, "x86_64", True, id="AMX"),
        pytest.param({"bf16"}, "aarch64", True, id="Arm"),
        pytest.param({"bf16"}, "x86_64", False, id="a word of another machine"),
    ],
)
def test_native_bf16(flags: set[str], machine: str, expected: bool):
    """bf16 only where the CPU multiplies it."""
    assert expected == native_bf16(flags, machine)


@pytest.mark.parametrize(
    ("method", "device", "bf16", "expected"),
    [
        (Method.LORA, Device.CPU, True, Precision("bfloat16")),
        (Method.LORA, Device.CPU, False, Precision("float32")),
        (Method.QLORA, Device.CUDA, True, Precision("bfloat16", autocast=True)),
        (Method.FULL, Device.CPU, True, Precision("float32")),
        (Method.FULL, Device.CUDA, True, Precision("float32", autocast=True)),
        (Method.FULL, Device.CUDA, False, Precision("float32")),
    ],
)
def test_precision(method: Method, device: Device, bf16: bool, expected: Precision):
    """Full fine-tuning keeps fp32 weights, and fp16 is never used (P19)."""
    assert expected == precision(method, device, bf16)


def test_attention_is_only_exchanged_where_it_was_measured_to_be_faster():
    """Plain attention for short rows in bf16 on a CPU; what a family demands stays."""
    assert attention("sdpa", Device.CPU, "bfloat16", 512) == "eager"
    assert attention("sdpa", Device.CPU, "bfloat16", 513) == "sdpa"
    assert attention("sdpa", Device.CPU, "float32", 64) == "sdpa"
    assert attention("sdpa", Device.CUDA, "bfloat16", 64) == "sdpa"
    assert attention("eager", Device.CUDA, "bfloat16", 4096) == "eager"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"cpu.max": "150000 100000\n"}, 1.5, id="v2"),
        pytest.param({"cpu.max": "max 100000\n"}, None, id="v2 without a limit"),
        pytest.param({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5, id="v1"),
        pytest.param({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, id="v1 without a limit"),
        pytest.param({"cpu.max": ""}, None, id="nothing"),
        pytest.param({}, None, id="no cgroup"),
    ],
)
def test_cpu_quota(tmp_path: Path, files: dict[str, str], expected: float | None):
    """Both versions of cgroups say how many CPUs there are."""
    write(tmp_path, files)

    assert expected == cpu_quota(tmp_path)


def test_threads_never_exceed_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A pod with half a CPU computes with one thread, and what the user set wins."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    write(tmp_path, {"cpu.max": "50000 100000"})
    assert (usable_cores(tmp_path), threads(tmp_path)) == (1, 1)

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads(tmp_path) == 3


def test_memory_is_what_the_cgroup_leaves(tmp_path: Path):
    """A container's limit counts, not the host's memory."""
    write(tmp_path, {"memory.max": "1000000", "meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n"})

    assert memory_limit(tmp_path) == 1_000_000
    assert available_memory(tmp_path, tmp_path) == 1_000_000
    write(tmp_path, {"memory.max": "max"})
    assert available_memory(tmp_path, tmp_path) == 8000 * 1024


def test_cpu_flags(tmp_path: Path):
    """x86 calls them flags, Arm calls them Features."""
    write(tmp_path, {"cpuinfo": "processor : 0\nflags\t\t: fpu avx2 avx512_bf16\n"})
    assert {"fpu", "avx2", "avx512_bf16"} == cpu_flags(tmp_path)
    write(tmp_path, {"cpuinfo": "processor : 0\nFeatures : fp asimd bf16\n"})
    assert {"fp", "asimd", "bf16"} == cpu_flags(tmp_path)


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("rows", [16, 12, 7])
@pytest.mark.parametrize("memory", [1, 10**9, 10**12])
def test_micro_batches_always_divide_the_effective_batch(rows: int, memory: int):
    """The optimizer's step never depends on how much of it is in memory at once."""
    found = batching(SMALL, memory, 256, rows, Limits("cpu"))

    assert rows == found.micro * found.accumulation


def test_activations_are_computed_twice_only_where_nothing_fits_otherwise():
    """Checkpointing costs a quarter of the speed, so a smaller batch comes first."""
    row = row_bytes(SMALL, 256, "sdpa", checkpointing=False)

    assert Batching(8, 2, checkpointing=False) == batching(SMALL, 100 * row, 256, 16, Limits("cpu"))
    assert Batching(1, 16, checkpointing=False) == batching(SMALL, int(1.5 * row), 256, 16, Limits("cpu"))
    assert Batching(1, 16, checkpointing=True) == batching(SMALL, int(0.9 * row), 256, 16, Limits("cpu"))


def test_the_estimate_is_near_what_was_measured():
    """SmolLM2, 4 rows of 467 tokens, bf16, plain attention: 6.2 GB at the peak, of which 1.2 GB were there before."""
    assert 4 * row_bytes(SMALL, 467, "eager", checkpointing=False) == pytest.approx(5.0e9, rel=0.25)


def test_what_the_user_chose_stays():
    """A batch size or checkpointing from the manifest is not second-guessed."""
    assert Batching(4, 4, checkpointing=True) == batching(
        SMALL, 10**12, 256, 16, Limits("cpu", micro=4, checkpointing=True)
    )
    assert Batching(16, 1, checkpointing=False) == batching(
        SMALL, 1, 256, 16, Limits("cpu", micro=16, checkpointing=False)
    )
    assert Batching(16, 1, checkpointing=True) == batching(SMALL, 1, 256, 16, Limits("cpu", micro=16))


def test_halved_keeps_the_step():
    """Half the rows at once, twice as often (P26)."""
    assert Batching(4, 4, checkpointing=False) == Batching(8, 2, checkpointing=False).halved()
    assert Batching(1, 7, checkpointing=False) == Batching(7, 1, checkpointing=False).halved()


@pytest.mark.parametrize(
    ("name", "on_gpu", "on_cpu"),
    [
        (Optimizer.ADAMW, "adamw_torch_fused", "adamw_torch_fused"),
        (Optimizer.ADAMW_8BIT, "adamw_8bit", "adamw_torch_fused"),
        (Optimizer.PAGED_ADAMW_8BIT, "paged_adamw_8bit", "adamw_torch_fused"),
        (Optimizer.ADAFACTOR, "adafactor", "adafactor"),
    ],
)
def test_optimizers_that_need_a_gpu_become_adamw_on_a_cpu(name: Optimizer, on_gpu: str, on_cpu: str):
    """8-bit and paged AdamW gain nothing without a GPU (P77)."""
    assert (optimizer(name, Device.CUDA), optimizer(name, Device.CPU)) == (on_gpu, on_cpu)


def test_a_cpu_pod_on_a_gpu_node_says_that_no_gpu_is_meant(tmp_path: Path):
    """P80: the driver's files show in every container of the node."""
    variables = environment(use_gpu=False, scratch=tmp_path, home_writable=True)

    assert tuple(variables[n] for n in ("UNSLOTH_FORCE_CPU", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE")) == (
        "1",
        "",
        "1",
    )
    assert "UNSLOTH_FORCE_CPU" not in environment(use_gpu=True, scratch=tmp_path, home_writable=True)


def test_a_gpu_that_nobody_asked_for_and_that_does_not_work_is_none():
    """A device file without a driver must not keep a machine from training; what was asked for must be there."""
    there = torch_finds_a_gpu()

    assert wants_gpu(TrainExecution(use_gpu=True)) == there
    assert wants_gpu(TrainExecution(use_gpu=True, gpu_required=True))
    assert not wants_gpu(TrainExecution())
    if not there:
        with pytest.raises(StageFailure, match="finds none"):
            find_device(TrainExecution(use_gpu=True, gpu_required=True))


@pytest.mark.parametrize(
    ("asked", "lack"),
    [
        pytest.param({}, None, id="any"),
        pytest.param({"gpu_product": "NVIDIA-L4"}, None, id="this product"),
        pytest.param({"gpu_product": "NVIDIA-A100-SXM4-80GB"}, "asks for a GPU NVIDIA-A100", id="another product"),
        pytest.param({"gpu_memory_bytes": 24 << 30}, None, id="24 GB are sold, 23 GiB shown"),
        pytest.param({"gpu_memory_bytes": 40 << 30}, "of 40.0 GiB", id="more memory"),
    ],
)
def test_a_gpu_is_what_was_asked_for(asked: dict[str, object], lack: str | None):
    """By the name in its node's label, or by the memory that it shows."""
    found = shortfall(TrainExecution.model_validate(asked), "NVIDIA L4", 23034 << 20)

    assert (found is None) == (lack is None)
    assert lack is None or lack in str(found)


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        ("24Gi", 24 * 2**30),
        ("1", 1),
        ("1.5G", 1_500_000_000),
        ("1e3", 1000),
        ("500m", Decimal("0.5")),
        ("2E", 2e18),
    ],
)
def test_a_quantity_stands_for_a_number(quantity: str, number: Decimal):
    """As Kubernetes reads it."""
    assert quantity_number(quantity) == number


def torch_finds_a_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.mark.parametrize("use_gpu", [False, True])
def test_no_library_fetches_another_model(tmp_path: Path, use_gpu: bool):
    """P15: Unsloth would train a copy of its own from the hub in the place of the base."""
    assert environment(use_gpu, scratch=tmp_path, home_writable=True)["HF_HUB_OFFLINE"] == "1"


def test_caches_go_to_the_scratch_folder_where_home_is_read_only(tmp_path: Path):
    """P14: a pod's root file system is read-only."""
    variables = environment(use_gpu=True, scratch=tmp_path, home_writable=False)

    for name in ("HF_HOME", "XDG_CACHE_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        assert str(tmp_path) in variables[name]
