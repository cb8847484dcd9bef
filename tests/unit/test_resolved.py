"""What prepare has pinned fits into a termination message, and is whole again beside the spec."""

import pytest
from pydantic import ValidationError

from support.builders import a_spec, resolved
from tunesmith_api.quantizations import QuantizationType
from tunesmith_api.resolved import ResolvedFile, brief, whole
from tunesmith_api.stages import RESULT_BYTES, Stage, StageResult, fitting


def test_sources_are_whole_again() -> None:
    """Held-out rows and somebody else's adapter too; an address's query, which may be a signature, is in neither."""
    spec = a_spec(
        model={"source": "hf://org/model", "adapter": "s3://a/b"},
        datasets=[{"source": "https://host/rows.jsonl?signature=x"}, {"source": "s3://bucket/rows.jsonl"}],
        evaluation={"dataset": {"source": "hf://org/rows"}},
    )
    pinned = resolved(spec)
    first = pinned.datasets[0].model_copy(update={"uri": "https://host/rows.jsonl", "revision": "main"})
    pinned = pinned.model_copy(update={"datasets": (first, pinned.datasets[1])})
    files = (ResolvedFile(path="model.safetensors", size=1, digest="sha256:0"),)
    with_files = pinned.model_copy(update={"model": pinned.model.model_copy(update={"files": files})})

    assert whole(brief(with_files), spec) == pinned
    assert "signature" not in str(brief(with_files))


def test_sixteen_datasets_and_every_type_fit() -> None:
    """Contract 5: with the longest addresses, pinned revisions, and all stages found in the store."""
    spec = a_spec(datasets=[{"source": f"hf://org/{'x' * 1000}{n}"} for n in range(16)])
    pinned = resolved(spec, name="x" * 96, license="apache-2.0")
    commits = tuple(dataset.model_copy(update={"revision": "0" * 40, "size": 10**11}) for dataset in pinned.datasets)
    found = brief(pinned.model_copy(update={"datasets": commits}))
    present = ["train", "convert", "imatrix", "baseline"]
    result = StageResult(stage=Stage.PREPARE, figures={"resolved": found, "present": present, "trainRows": 10**9})

    assert fitting(result) == result
    assert len(result.model_dump_json(by_alias=True, exclude_none=True)) < RESULT_BYTES
    assert len(QuantizationType) > 20  # quantize always runs: no type has to be named


@pytest.mark.parametrize("found", [{}, {"model": {}, "datasets": []}, {"model": None, "datasets": [[]]}])
def test_something_else_is_an_error(found: dict[str, object]) -> None:
    """A pod of another version may have written anything."""
    with pytest.raises((KeyError, TypeError, ValueError, ValidationError)):
        whole(found, a_spec())
