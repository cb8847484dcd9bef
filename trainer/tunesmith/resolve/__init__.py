"""A spec's sources become what they are: revisions, digests, sizes, dimensions; no weights are read."""

import hashlib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.cache import cache_dir
from tunesmith.resolve import model_facts
from tunesmith.resolve.datasets import row_files
from tunesmith.resolve.digests import combined, file_digest
from tunesmith.resolve.listing import Access, Listing, fetch, list_source, matching
from tunesmith.resolve.uri import Source, parse_source
from tunesmith_api import families
from tunesmith_api.resolved import Resolved, ResolvedDataset, ResolvedFile, ResolvedModel
from tunesmith_api.spec import Dataset, JobSpec, Model

__all__ = ["Access", "Fetched", "fetch_adapter", "fetch_model", "resolve", "resolve_dataset", "resolve_model"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A dataset that is pinned and lies in local files."""

    resolved: ResolvedDataset
    folder: Path


def resolve(spec: JobSpec, access: Access) -> Resolved:
    """All sources of a spec, pinned; raises `SourceUnavailable`, `AccessDenied`, `ModelInvalid`, `DatasetInvalid`."""
    held_out = spec.evaluation.dataset
    return Resolved(
        model=resolve_model(spec.model, access),
        datasets=tuple(resolve_dataset(dataset, access).resolved for dataset in spec.datasets),
        evaluation=None if held_out is None else resolve_dataset(held_out, access).resolved,
        adapter=None if spec.model.adapter is None else _resolve_adapter(spec.model, access),
    )


def resolve_model(model: Model, access: Access) -> ResolvedModel:
    """The base model's commit, digest, family and dimensions, from its list of files and its small ones."""
    source, listing = _listed(model, access)
    texts = _small_texts(source, listing, _with_secret(access, model.secret_ref))
    config = model_facts.read_config(model.source, texts["config.json"])
    files = matching(listing.files, model_facts.WANTED)
    weights = sum(file.size for file in files if file.path.endswith(".safetensors"))
    template = model_facts.chat_template(texts)
    return ResolvedModel(
        uri=model.source,
        name=model.source.rstrip("/").rsplit("/", 1)[-1],
        revision=listing.revision,
        digest=combined(files),
        family=families.identify(config, template),
        chat=template is not None,
        dimensions=model_facts.dimensions(model.source, config, weights),
        files=files,
        license=listing.license,
    )


def fetch_model(model: Model, pinned: ResolvedModel, into: Path, access: Access) -> None:
    """Bring a pinned model's files into a folder."""
    listing = Listing("model", pinned.revision, pinned.files)
    fetch(parse_source(model.source), listing, pinned.files, into, _with_secret(access, model.secret_ref))


def fetch_adapter(model: Model, pinned: ResolvedDataset, into: Path, access: Access) -> None:
    """Bring a pinned adapter's files into a folder."""
    listing = Listing("model", pinned.revision, pinned.files)
    fetch(parse_source(str(model.adapter)), listing, pinned.files, into, _with_secret(access, model.secret_ref))


def resolve_dataset(dataset: Dataset, access: Access, revision: str | None = None) -> Fetched:
    """A dataset's rows, fetched into the cache and pinned by the digest of their bytes."""
    source = parse_source(dataset.source)
    access = replace(_with_secret(access, dataset.secret_ref), endpoint=dataset.endpoint or access.endpoint)
    listing = list_source(source, "dataset", revision, access)
    where = dataset.source
    card = _card(source, listing, access)
    wanted = row_files(where, listing.files, (dataset.config, dataset.split), card)
    identity = hashlib.sha256(f"{where} {combined(wanted)}".encode()).hexdigest()[:32]
    folder = cache_dir() / "sources" / identity
    fetch(source, listing, wanted, folder, access)
    files = tuple(_hashed(folder, file) for file in wanted)
    digest = files[0].digest if len(files) == 1 else combined(files)
    size = sum(file.size for file in files)
    return Fetched(ResolvedDataset(uri=where, digest=digest, size=size, revision=listing.revision, files=files), folder)


def _resolve_adapter(model: Model, access: Access) -> ResolvedDataset:
    source = parse_source(str(model.adapter))
    listing = list_source(source, "model", None, _with_secret(access, model.secret_ref))
    files = matching(listing.files, ("adapter_config.json", "adapter_model.safetensors"))
    size = sum(file.size for file in files)
    return ResolvedDataset(
        uri=str(model.adapter), digest=combined(files), size=size, revision=listing.revision, files=files
    )


def _listed(model: Model, access: Access) -> tuple[Source, Listing]:
    source = parse_source(model.source)
    listing = list_source(source, "model", model.revision, _with_secret(access, model.secret_ref))
    model_facts.check_files(model.source, listing.files)
    return source, listing


def _small_texts(source: Source, listing: Listing, access: Access) -> dict[str, str]:
    wanted = matching(listing.files, model_facts.SMALL_FILES)
    with tempfile.TemporaryDirectory() as folder:
        fetch(source, listing, wanted, Path(folder), access)
        return {file.path: (Path(folder) / file.path).read_text(encoding="utf-8") for file in wanted}


def _card(source: Source, listing: Listing, access: Access) -> str | None:
    cards = matching(listing.files, ("README.md",))
    if not cards:
        return None
    with tempfile.TemporaryDirectory() as folder:
        fetch(source, listing, cards, Path(folder), access)
        return (Path(folder) / "README.md").read_text(encoding="utf-8", errors="replace")


def _hashed(folder: Path, file: ResolvedFile) -> ResolvedFile:
    path = folder / file.path
    return ResolvedFile(path=file.path, size=path.stat().st_size, digest=file_digest(path))


def _with_secret(access: Access, reference: object) -> Access:
    name = getattr(reference, "name", None)
    return access if name is None else replace(access, secret=name)
