"""What lies on this machine goes into the store by its digest, and the manifest names it there (contract 3)."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.cluster.problem import ClusterProblem, wrong
from tunesmith.resolve import Access, resolve_adapter, resolve_dataset, resolve_model
from tunesmith.resolve.digests import combined
from tunesmith.resolve.listing import list_source, matching
from tunesmith.resolve.model_facts import SMALL_FILES
from tunesmith.resolve.uri import Scheme, local_path, parse_source
from tunesmith.store import Store
from tunesmith.store.folders import in_parallel
from tunesmith_api.fields import Field, spell
from tunesmith_api.resolved import ResolvedFile
from tunesmith_api.spec import FineTuneJob
from tunesmith_api.stages import StoreLocation

MODEL: Field = ("spec", "model", "source")
ADAPTER: Field = ("spec", "model", "adapter")
_CARD = "README.md"
_SHA256 = "sha256:"


@dataclass(frozen=True, slots=True)
class Upload:
    """One source of this machine: its field, where its files are, and what it is in the store.

    `name` is its own, which the address ends with: a report calls the model by it, and it says how rows are written.
    """

    field: Field
    folder: Path
    files: tuple[ResolvedFile, ...]
    name: str
    single: bool

    @property
    def digest(self) -> str:
        """The sha256 of the file, or of the list of all files with theirs."""
        return (self.files[0].digest if self.single else combined(self.files)).removeprefix(_SHA256)

    def address(self, location: StoreLocation) -> str:
        """The ``s3://`` address that the manifest gets."""
        return f"{location.uri.rstrip('/')}/{self._at(location.namespace)}"

    def object_name(self, namespace: str, file: ResolvedFile) -> str:
        """Where one of its files is in the store."""
        return self._at(namespace) if self.single else f"{self._at(namespace)}/{file.path}"

    def _at(self, namespace: str) -> str:
        return f"{namespace}/uploads/{self.digest}/{self.name}"


def local_fields(job: FineTuneJob) -> tuple[Field, ...]:
    """The fields whose sources are files of this machine."""
    return tuple(field for field, uri in job.spec.sources().items() if uri.startswith(f"{Scheme.FILE}://"))


def uploads_of(job: FineTuneJob, base: Path) -> tuple[Upload, ...]:
    """What has to go into the store, hashed: of each source the files that a stage would take, and no others.

    Relative paths start at `base`. Raises as `resolve` does.
    """
    access = Access(base)
    return tuple(_upload(job, field, access) for field in local_fields(job))


def _upload(job: FineTuneJob, field: Field, access: Access) -> Upload:
    source = parse_source(job.spec.sources()[field])
    path = local_path(source, access.base)
    listing = list_source(source, "model" if field in (MODEL, ADAPTER) else "dataset", None, access)
    beside: Sequence[str] = ()
    if field == MODEL:
        files, beside = resolve_model(job.spec.model, access).files, SMALL_FILES
    elif field == ADAPTER:
        files = resolve_adapter(job.spec.model, access).files
    else:
        dataset = job.spec.evaluation.dataset if field[1] == "evaluation" else job.spec.datasets[int(field[2])]
        assert dataset is not None  # noqa: S101  # the field is its own
        files, beside = resolve_dataset(dataset, access).resolved.files, (_CARD,)
    known = {file.path for file in files}
    more = [file for file in matching(listing.files, beside) if file.path not in known and not listing.single]
    single = listing.single and len(files) == 1
    folder = path.parent if path.is_file() else path
    name = path.name if path.name not in ("", "..") else path.resolve().name or "source"
    return Upload(field, folder, (*files, *more), name, single)


def missing_of(upload: Upload, store: Store, namespace: str) -> tuple[ResolvedFile, ...]:
    """Its files that the store has not yet; one that is there is left alone, since jobs have pinned it."""

    def is_there(file: ResolvedFile) -> bool:
        found = store.stat(upload.object_name(namespace, file))
        return found is not None and found.size == file.size

    there = in_parallel(is_there, upload.files)
    return tuple(file for file, known in zip(upload.files, there, strict=True) if not known)


def put_file(upload: Upload, file: ResolvedFile, store: Store, namespace: str) -> None:
    """Store one file; a `ClusterProblem` if it is not what it was when it was hashed, and then it is not left there."""
    name = upload.object_name(namespace, file)
    entry = store.put_file(upload.folder / file.path, name)
    if f"{_SHA256}{entry.sha256}" != file.digest:
        store.delete(name)
        raise ClusterProblem(f"{upload.folder / file.path} has changed while it was uploaded", "Submit the job again.")


def with_uploads(
    written: Mapping[str, Any], uploads: Sequence[Upload], location: StoreLocation, secret: str | None
) -> dict[str, Any]:
    """The manifest with the addresses in the store, and with the Secret that reads it; all else as it is written.

    Raises a `ClusterProblem` where one Secret would have to read two services.
    """
    manifest = deepcopy(dict(written))
    fields = {upload.field for upload in uploads}
    for upload in uploads:
        _replace(manifest, upload.field, upload.address(location), secret)
    if fields & {MODEL, ADAPTER}:
        _check_model(written["spec"]["model"], fields, secret)
    return manifest


def _replace(manifest: dict[str, Any], field: Field, address: str, secret: str | None) -> None:
    holder: Any = manifest
    for step in field[:-1]:
        holder = holder[step]
    holder[field[-1]] = address
    # The store's own service is asked where no endpoint is named.
    holder.pop("endpoint", None)
    if secret is None:
        holder.pop("secretRef", None)
    else:
        holder["secretRef"] = {"name": secret}


def _check_model(model: Mapping[str, Any], uploaded: set[Field], secret: str | None) -> None:
    """Model and adapter are read with one Secret: what is not uploaded has to be read with the store's too."""
    left = [field for field in (MODEL, ADAPTER) if field not in uploaded and model.get(str(field[-1]))]
    if left and (model.get("secretRef") or {}).get("name") != secret:
        raise wrong(
            f"{spell(left[0])} and what is uploaded for spec.model would be read with one Secret, spec.model.secretRef",
            "Upload both: fetch the other to this machine, and name it as file://.",
        )
