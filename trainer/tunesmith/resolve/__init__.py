"""A spec's sources become what they are: revisions, digests, sizes, dimensions; no weights are fetched."""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.cache import cache_dir
from tunesmith.resolve import model_facts
from tunesmith.resolve.datasets import front_matter, row_files
from tunesmith.resolve.digests import combined, file_digest, safetensors_header
from tunesmith.resolve.failures import changed, of_field
from tunesmith.resolve.listing import Access, Listing, fetch, folder_here, list_source, matching
from tunesmith.resolve.pinned import check_pinned
from tunesmith.resolve.uri import Source, parse_source
from tunesmith_api import families
from tunesmith_api.resolved import Resolved, ResolvedDataset, ResolvedFile, ResolvedModel
from tunesmith_api.spec import Dataset, JobSpec, Model

__all__ = [
    "Access",
    "Fetched",
    "changed",
    "fetch_adapter",
    "fetch_model",
    "resolve",
    "resolve_adapter",
    "resolve_dataset",
    "resolve_model",
]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A dataset that is pinned and lies in local files."""

    resolved: ResolvedDataset
    folder: Path


def resolve(spec: JobSpec, access: Access) -> Resolved:
    """All sources of a spec, pinned.

    Raises, with the field of the source: `SourceUnavailable`, `SourceAbsent`, `AccessDenied`, `ModelInvalid`,
    `DatasetInvalid`.
    """
    held_out, adapter = spec.evaluation.dataset, None
    with of_field("spec.model.source"):
        model = resolve_model(spec.model, access)
    if spec.model.adapter is not None:
        with of_field("spec.model.adapter"):
            adapter = resolve_adapter(spec.model, access)
    return Resolved(
        model=model,
        datasets=tuple(_pinned(each, f"spec.datasets[{at}]", access) for at, each in enumerate(spec.datasets)),
        evaluation=None if held_out is None else _pinned(held_out, "spec.evaluation.dataset", access),
        adapter=adapter,
    )


def _pinned(dataset: Dataset, place: str, access: Access) -> ResolvedDataset:
    with of_field(f"{place}.source"):
        return resolve_dataset(dataset, access).resolved


def resolve_model(model: Model, access: Access) -> ResolvedModel:
    """The base model's commit, digest, family and dimensions, from its list of files and its small ones."""
    source, access = parse_source(model.source), _with_secret(access, model.secret_ref)
    listing = list_source(source, "model", model.revision, access)
    where = source.told
    model_facts.check_files(where, listing.files)
    texts = _small_texts(source, listing, access)
    config = model_facts.read_config(where, texts["config.json"])
    wanted = matching(listing.files, model_facts.WANTED)
    files = model_facts.own_files(where, wanted, texts.get(model_facts.INDEX))
    weights = [file for file in files if file.path.endswith(".safetensors")]
    template = model_facts.chat_template(texts)
    counted = listing.parameters or _counted(listing, weights)
    return ResolvedModel(
        uri=where,
        name=where.rstrip("/").rsplit("/", 1)[-1],
        revision=listing.revision,
        digest=combined(files),
        family=families.identify(config, template),
        chat=template is not None,
        dimensions=model_facts.dimensions(where, config, sum(file.size for file in weights), counted),
        files=files,
        license=listing.license or model_facts.license_name(front_matter(texts.get("README.md")).get("license")),
    )


def resolve_adapter(model: Model, access: Access) -> ResolvedDataset:
    """The files of the adapter that a model is named with, pinned; raises as `resolve`."""
    source = parse_source(str(model.adapter))
    listing = list_source(source, "model", None, _with_secret(access, model.secret_ref))
    model_facts.check_adapter(source.told, listing.files)
    files = matching(listing.files, model_facts.ADAPTER_FILES)
    size = sum(file.size for file in files)
    return ResolvedDataset(uri=source.told, digest=combined(files), size=size, revision=listing.revision, files=files)


def fetch_model(model: Model, pinned: ResolvedModel, into: Path, access: Access) -> None:
    """Bring a pinned model's files into a folder; `SourceAbsent` if they are no longer the pinned ones."""
    _fetch_pinned(model.source, pinned, into, _with_secret(access, model.secret_ref))


def fetch_adapter(model: Model, pinned: ResolvedDataset, into: Path, access: Access) -> None:
    """Bring a pinned adapter's files into a folder; `SourceAbsent` if they are no longer the pinned ones."""
    _fetch_pinned(str(model.adapter), pinned, into, _with_secret(access, model.secret_ref))


def _fetch_pinned(uri: str, pinned: ResolvedModel | ResolvedDataset, into: Path, access: Access) -> None:
    source = parse_source(uri)
    listing = Listing("model", pinned.revision, pinned.files, folder=folder_here(source, access))
    fetch(source, listing, pinned.files, into, access)
    check_pinned(source, pinned.files, into, access)


def resolve_dataset(dataset: Dataset, access: Access, revision: str | None = None) -> Fetched:
    """A dataset's rows, fetched into the cache and pinned by the digest of their bytes."""
    source = parse_source(dataset.source)
    access = _with_secret(access, dataset.secret_ref)
    if dataset.endpoint is not None:
        # Another service, which the store's keys are none of the business of.
        access = replace(access, endpoint=dataset.endpoint, store_secret=None)
    listing = list_source(source, "dataset", revision, access)
    where = source.told
    choice = (dataset.config, dataset.split)
    if listing.single and choice == (None, None):
        wanted = listing.files
    else:
        wanted = row_files(where, listing.files, choice, _card(source, listing, access))
    # The whole address: two may differ in their query alone.
    identity = hashlib.sha256(f"{source.uri} {combined(wanted)}".encode()).hexdigest()[:32]
    folder = cache_dir() / "sources" / identity
    fetch(source, listing, wanted, folder, access)
    files = tuple(_hashed(folder, file) for file in wanted)
    digest = files[0].digest if len(files) == 1 else combined(files)
    size = sum(file.size for file in files)
    return Fetched(ResolvedDataset(uri=where, digest=digest, size=size, revision=listing.revision, files=files), folder)


def _counted(listing: Listing, weights: Sequence[ResolvedFile]) -> int | None:
    """The parameters of weights that lie on this machine, by their headers; None where they are elsewhere."""
    if listing.folder is None:
        return None
    return sum(model_facts.counted_parameters(safetensors_header(listing.folder / file.path)) for file in weights)


def _small_texts(source: Source, listing: Listing, access: Access) -> dict[str, str]:
    wanted = matching(listing.files, model_facts.SMALL_FILES)
    with tempfile.TemporaryDirectory() as folder:
        fetch(source, listing, wanted, Path(folder), access)
        return {file.path: (Path(folder) / file.path).read_text("utf-8", errors="replace") for file in wanted}


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
