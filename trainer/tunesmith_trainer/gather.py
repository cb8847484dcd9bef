"""The first step of prepare: pinned sources become a mirrored base model in the store and row files in scratch."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from tunesmith.resolve import Access, Fetched, changed, fetch_adapter, fetch_model, resolve_dataset
from tunesmith.resolve.uri import portable
from tunesmith.store import Artifacts
from tunesmith_api.execution import PrepareExecution
from tunesmith_api.resolved import ResolvedDataset, ResolvedFile
from tunesmith_api.spec import Dataset
from tunesmith_api.stages import ArtifactReference, Kind, Stage, StageRequest
from tunesmith_trainer.made import made_by
from tunesmith_trainer.work import Progress, moving

log = logging.getLogger(__name__)


def gather(request: StageRequest, artifacts: Artifacts, scratch: Path, progress: Progress) -> None:
    """Mirror base and adapter into the store if they are not there, and lay out ``sources/`` in scratch.

    Raises `SourceAbsent` if a source is no longer what the job was made for.
    """
    told = PrepareExecution.model_validate(request.execution)
    secrets = None if request.secrets is None else Path(request.secrets)
    access = Access(
        Path(told.folder),
        secrets,
        endpoint=told.endpoint,
        region=told.region,
        ca_secret=told.ca_secret,
        store_secret=told.store_secret,
    )
    for output in request.outputs:
        if output.kind in (Kind.BASE, Kind.ADAPTER) and (
            request.replace or artifacts.find(output.kind, output.key) is None
        ):
            folder = scratch / output.kind.value
            # An adapter is small beside it.
            size = told.resolved.model.dimensions.bytes if output.kind is Kind.BASE else 0
            progress(0.0, moving("fetching", size))
            meta = _fetch(told, output.kind, folder, access)
            progress(0.0, moving("storing", size))
            _mirror(request, output, artifacts, folder, meta)
    progress(0.0, moving("fetching", sum(pinned.size for pinned in told.resolved.datasets)))
    for index, (dataset, pinned) in enumerate(zip(told.datasets, told.resolved.datasets, strict=True)):
        _lay_out(dataset, pinned, scratch / "sources" / str(index), access)
    if told.evaluation.dataset is not None and told.resolved.evaluation is not None:
        _lay_out(told.evaluation.dataset, told.resolved.evaluation, scratch / "sources" / "evaluation", access)


def _fetch(told: PrepareExecution, kind: Kind, folder: Path, access: Access) -> dict[str, str | None]:
    """Bring the pinned files of the base or the adapter, and no others, into a folder; what is to be said of them."""
    meta: dict[str, str | None]
    if kind is Kind.BASE:
        model = told.resolved.model
        log.info("mirroring %s (%.2f GB) into the store", model.uri, model.dimensions.bytes / 1e9)
        fetch_model(told.model, model, folder, access)
        files = model.files
        meta = {"name": model.name, "uri": model.uri, "revision": model.revision, "digest": model.digest}
        meta["license"] = model.license
    else:
        adapter = told.resolved.adapter
        assert adapter is not None  # noqa: S101  # the plan has this output only then
        fetch_adapter(told.model, adapter, folder, access)
        files = adapter.files
        meta = {"name": None, "uri": adapter.uri, "revision": adapter.revision, "digest": adapter.digest}
    _drop_others(folder, files)
    # Jobs of others share the artifact and publish what it says: a path of this machine says nothing there (P37).
    return meta if portable(str(meta["uri"])) else meta | {"uri": meta["name"]}


def _mirror(
    request: StageRequest,
    output: ArtifactReference,
    artifacts: Artifacts,
    folder: Path,
    meta: Mapping[str, str | None],
) -> None:
    """Move a folder into the store; what another job has stored under this key meanwhile stays."""
    # What was downloaded is ours to give away; a user's own files and the cache's are only linked in scratch.
    ours = not any(path.is_symlink() for path in folder.iterdir())
    artifacts.commit(
        output.kind,
        output.key,
        folder,
        meta=meta,
        made=made_by(Stage.PREPARE),
        give=ours,
        replace=request.replace,
    )
    shutil.rmtree(folder)


def _drop_others(folder: Path, files: tuple[ResolvedFile, ...]) -> None:
    """Leave the pinned files alone in a folder: the hub's library keeps locks and times of its own beside them."""
    wanted = {folder / file.path for file in files}
    for path in folder.rglob("*"):
        if not path.is_dir() and path not in wanted:
            path.unlink()


def _lay_out(dataset: Dataset, pinned: ResolvedDataset, at: Path, access: Access) -> None:
    fetched: Fetched = resolve_dataset(dataset, access, pinned.revision)
    if fetched.resolved.digest != pinned.digest:
        raise changed(pinned.uri)
    at.mkdir(parents=True, exist_ok=True)
    for file in fetched.resolved.files:
        target = at / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to((fetched.folder / file.path).resolve())
