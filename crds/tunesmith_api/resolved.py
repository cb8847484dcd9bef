"""What the sources turned out to be: revisions, digests, sizes and the dimensions of the model, pinned once."""

from tunesmith_api.schema import Recorded


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
    files: tuple[ResolvedFile, ...] = ()
    license: str | None = None


class ResolvedDataset(Recorded):
    """A dataset, pinned: `digest` is ``sha256:`` of its bytes (of the sorted digests where it has several files)."""

    uri: str
    digest: str
    size: int
    revision: str | None = None
    files: tuple[ResolvedFile, ...] = ()


class Resolved(Recorded):
    """All sources of a job; recorded once and never changed for the life of the object."""

    model: ResolvedModel
    datasets: tuple[ResolvedDataset, ...]
    evaluation: ResolvedDataset | None = None
    adapter: ResolvedDataset | None = None
