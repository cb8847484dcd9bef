"""What the sources turned out to be: revisions, digests, sizes and the dimensions of the model, pinned once."""

from collections.abc import Mapping
from typing import Annotated, Any

from tunesmith_api.schema import Recorded, unless_empty
from tunesmith_api.sources import told
from tunesmith_api.spec import JobSpec


class ModelDimensions(Recorded):
    """The numbers that estimates and checks need, read from config.json and the weight files.

    `parameters` is the hub's count, or from the safetensors headers where the files lie on this machine; else `bytes`,
    the size of all weight files, over the dtype that config.json states.
    """

    architecture: str
    model_type: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    parameters: int
    bytes: int
    dtype: str


class ResolvedFile(Recorded):
    """One file of a source: its path in it, its size in bytes and what identifies its content."""

    path: str
    size: int
    digest: str


class ResolvedModel(Recorded):
    """A base model, pinned.

    `uri` names it without secrets, `revision` is the hub's 40-hex commit where there is one, `digest` (``sha256:``)
    is over the sorted (path, size, digest) of `files`.
    """

    uri: str
    name: str
    revision: str | None = None
    digest: str
    family: str
    chat: bool
    dimensions: ModelDimensions
    files: Annotated[tuple[ResolvedFile, ...], unless_empty()] = ()
    license: str | None = None


class ResolvedDataset(Recorded):
    """A dataset, pinned: `digest` is ``sha256:`` of its bytes (of the sorted digests where it has several files)."""

    uri: str
    digest: str
    size: int
    revision: str | None = None
    files: Annotated[tuple[ResolvedFile, ...], unless_empty()] = ()


class Resolved(Recorded):
    """All sources of a job; recorded once and never changed for the life of the object."""

    model: ResolvedModel
    datasets: tuple[ResolvedDataset, ...]
    evaluation: ResolvedDataset | None = None
    adapter: ResolvedDataset | None = None


_SHA256 = "sha256:"


def brief(resolved: Resolved) -> dict[str, Any]:
    """What a termination message has room for, of sixteen datasets too (contract 5): no file lists, no addresses."""
    model = resolved.model.model_copy(update={"files": ()}).to_json_dict()
    del model["uri"]
    return {
        "model": model,
        "datasets": [_pin(dataset) for dataset in resolved.datasets],
        "evaluation": None if resolved.evaluation is None else _pin(resolved.evaluation),
        "adapter": None if resolved.adapter is None else _pin(resolved.adapter),
    }


def whole(found: Mapping[str, Any], spec: JobSpec) -> Resolved:
    """The resolved sources again, but for their files, from `brief` and the spec that names their addresses.

    KeyError, TypeError or ValidationError where it is not what `brief` made of this spec.
    """
    held_out, adapter = spec.evaluation.dataset, spec.model.adapter
    named = zip(found["datasets"], spec.datasets, strict=True)
    return Resolved(
        model=ResolvedModel.model_validate({**found["model"], "uri": told(spec.model.source)}),
        datasets=tuple(_pinned(pin, dataset.source) for pin, dataset in named),
        evaluation=None if held_out is None else _pinned(found["evaluation"], held_out.source),
        adapter=None if adapter is None else _pinned(found["adapter"], adapter),
    )


def _pin(source: ResolvedDataset) -> list[Any]:
    return [source.digest.removeprefix(_SHA256), source.size, *([source.revision] if source.revision else [])]


def _pinned(pin: list[Any], uri: str) -> ResolvedDataset:
    digest, size, *revision = pin
    return ResolvedDataset(
        uri=told(uri), digest=_SHA256 + digest, size=size, revision=revision[0] if revision else None
    )
