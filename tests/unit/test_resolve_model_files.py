"""Of a model's or an adapter's files only its own are pinned and mirrored; what has none that are safe is refused."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from support.tiny_sources import CONFIG
from tunesmith.resolve import Access, resolve, resolve_model
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.spec import JobSpec, Model

INDEX = "model.safetensors.index.json"


def weights(count: int = 4, dtype: str = "BF16") -> bytes:
    size = {"BF16": 2, "F32": 4}[dtype] * count
    header = json.dumps(
        {"w": {"dtype": dtype, "shape": [count], "data_offsets": [0, size]}, "__metadata__": {}}
    ).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


def index(*shards: str) -> bytes:
    return json.dumps({"metadata": {}, "weight_map": {f"w{n}": shard for n, shard in enumerate(shards)}}).encode()


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def model(folder: Path, files: dict[str, bytes], config: dict[str, object] | None = None) -> Model:
    lay(folder, {"config.json": json.dumps(config or CONFIG).encode(), "tokenizer.json": b"{}"} | files)
    return Model(source=f"file://{folder}")


@pytest.mark.parametrize(
    ("files", "own"),
    [
        pytest.param(
            {
                "model.safetensors": weights(),
                "original/consolidated.safetensors": weights(),
                "original/tokenizer.model": b"x",
                "onnx/config.json": b"{}",
            },
            {"model.safetensors"},
            id="in folders below",
        ),
        pytest.param(
            {
                "model.safetensors": weights(),
                "consolidated.safetensors": weights(),
                "adapter_model.safetensors": weights(),
                "model-00001-of-00001.safetensors": weights(),
                INDEX: index("model-00001-of-00001.safetensors"),
            },
            {"model.safetensors"},
            id="a second copy",
        ),
        pytest.param(
            {
                "a-1.safetensors": weights(),
                "a-2.safetensors": weights(),
                "consolidated.safetensors": weights(),
                INDEX: index("a-1.safetensors", "a-2.safetensors", "a-1.safetensors"),
                "other.safetensors.index.json": index("consolidated.safetensors"),
            },
            {"a-1.safetensors", "a-2.safetensors", INDEX},
            id="shards",
        ),
    ],
)
def test_weights_that_transformers_would_not_load_stay_where_they_are(
    tmp_path: Path, files: dict[str, bytes], own: set[str]
) -> None:
    """They would be stored and counted double, and llama.cpp's converter would read them too."""
    found = resolve_model(model(tmp_path / "model", files), Access(tmp_path))
    parts = [name for name in own if name.endswith(".safetensors")]

    assert {file.path for file in found.files} == own | {"config.json", "tokenizer.json"}
    assert found.dimensions.bytes == len(parts) * len(weights())
    assert found.dimensions.parameters == len(parts) * 4


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({INDEX: index("a.safetensors", "b.safetensors"), "a.safetensors": weights()}, "lacks b.safetensors"),
        ({INDEX: index("../secret"), "a.safetensors": weights()}, "lacks ../secret"),
        ({INDEX: b"[]", "a.safetensors": weights()}, "is no index of weights"),
        ({"consolidated.safetensors": weights()}, "neither model.safetensors nor"),
        ({"original/model.safetensors": weights()}, "no *.safetensors weights"),
    ],
)
def test_weights_that_are_not_whole_are_refused(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    with pytest.raises(StageFailure) as caught:
        resolve_model(model(tmp_path / "model", files), Access(tmp_path))

    assert caught.value.failure is FailureClass.MODEL_INVALID
    assert said in caught.value.message


def test_parameters_are_counted_and_not_guessed_from_the_configuration(tmp_path: Path) -> None:
    """32-bit files whose config.json says bfloat16 had twice their parameters."""
    named = model(tmp_path / "m", {"model.safetensors": weights(1000, "F32")}, CONFIG | {"torch_dtype": "bfloat16"})

    assert resolve_model(named, Access(tmp_path)).dimensions.parameters == 1000


@pytest.mark.parametrize(
    ("card", "license_"),
    [
        (b"---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        (b"---\nlicense: llama3.2\n---\n", "llama3.2"),
        (b'---\nlicense: "mit\\nbase_model: other"\n---\n', None),
        (b"---\nlicense: [mit, other]\n---\n", None),
        (b"no front matter", None),
    ],
)
def test_the_licence_of_the_card_is_known(tmp_path: Path, card: bytes, license_: str | None) -> None:
    """One that could be repeated in a card of ours; what a stranger made of the field otherwise is not."""
    files = {"model.safetensors": weights(), "README.md": card}

    assert resolve_model(model(tmp_path / "model", files), Access(tmp_path)).license == license_


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"adapter_config.json": b"{}", "adapter_model.bin": b"x"}, "in a pickle file only"),
        ({"adapter_config.json": b"{}"}, "it has no adapter_model.safetensors"),
        ({"adapter_model.safetensors": weights()}, "it has no adapter_config.json"),
        ({"README.md": b"x"}, "no adapter_config.json and no adapter_model.safetensors"),
        (
            {"sub/adapter_config.json": b"{}", "sub/adapter_model.safetensors": weights()},
            "no adapter_config.json and no adapter_model.safetensors",
        ),
    ],
)
def test_what_is_no_adapter_is_refused_before_anything_runs(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    """A pickle-only one was mirrored as its configuration alone; an empty folder was taken for full weights."""
    model(tmp_path / "model", {"model.safetensors": weights()})
    lay(tmp_path / "adapter", files)
    (tmp_path / "rows.jsonl").write_text("{}\n")
    spec = JobSpec.model_validate(
        {
            "model": {"source": "file://model", "adapter": "file://adapter"},
            "datasets": [{"source": "file://rows.jsonl"}],
        }
    )
    with pytest.raises(StageFailure) as caught:
        resolve(spec, Access(tmp_path))

    assert caught.value.failure is FailureClass.MODEL_INVALID
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"model": {"source": "file://gone"}}, "spec.model.source"),
        ({"model": {"source": "file://model", "adapter": "file://gone"}}, "spec.model.adapter"),
        ({"datasets": [{"source": "file://rows.jsonl"}, {"source": "file://gone"}]}, "spec.datasets[1].source"),
        ({"evaluation": {"dataset": {"source": "file://gone"}}}, "spec.evaluation.dataset.source"),
    ],
)
def test_what_is_not_there_is_named_with_its_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any], field: str
) -> None:
    """As `validate` does; the path alone does not say which of several sources it is."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    model(tmp_path / "model", {"model.safetensors": weights()})
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    right = {"model": {"source": "file://model"}, "datasets": [{"source": "file://rows.jsonl"}]}
    with pytest.raises(StageFailure) as caught:
        resolve(JobSpec.model_validate(right | spec), Access(tmp_path))

    assert caught.value.failure is FailureClass.SOURCE_ABSENT
    assert caught.value.message.startswith(f"{field}: file://gone: there is no file or folder")
    assert caught.value.hint == "Correct the path."
