"""The first step of prepare: pinned sources become a mirrored base model in the store and row files in scratch."""

import logging
import shutil
from pathlib import Path

from tunesmith.resolve import Access, Fetched, fetch_adapter, fetch_model, resolve_dataset
from tunesmith.resolve.uri import Scheme, parse_source
from tunesmith.store import Artifacts
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import Resolved, ResolvedDataset
from tunesmith_api.schema import Api
from tunesmith_api.spec import Dataset, Evaluation, Model
from tunesmith_api.stages import ArtifactReference, Kind, StageRequest

log = logging.getLogger(__name__)


class PrepareExecution(Api):
    """Where prepare finds what its settings name by digest; `folder` is where relative file paths start."""

    model: Model
    datasets: tuple[Dataset, ...]
    evaluation: Evaluation
    resolved: Resolved
    folder: str
    endpoint: str | None = None
    region: str | None = None
    ca_secret: str | None = None


def gather(request: StageRequest, artifacts: Artifacts, scratch: Path) -> None:
    """Mirror base and adapter into the store if they are not there, and lay out ``sources/`` in scratch.

    Raises `SourceUnavailable` if a source is no longer what the job was made for.
    """
    told = PrepareExecution.model_validate(request.execution)
    secrets = None if request.secrets is None else Path(request.secrets)
    access = Access(Path(told.folder), secrets, endpoint=told.endpoint, region=told.region, ca_secret=told.ca_secret)
    for output in request.outputs:
        if output.kind in (Kind.BASE, Kind.ADAPTER) and (
            request.replace or artifacts.find(output.kind, output.key) is None
        ):
            _mirror(told, output, artifacts, scratch / output.kind.value, access)
    for index, (dataset, pinned) in enumerate(zip(told.datasets, told.resolved.datasets, strict=True)):
        _lay_out(dataset, pinned, scratch / "sources" / str(index), access)
    if told.evaluation.dataset is not None and told.resolved.evaluation is not None:
        _lay_out(told.evaluation.dataset, told.resolved.evaluation, scratch / "sources" / "evaluation", access)


def _mirror(
    told: PrepareExecution, output: ArtifactReference, artifacts: Artifacts, folder: Path, access: Access
) -> None:
    if output.kind is Kind.BASE:
        model = told.resolved.model
        log.info("mirroring %s (%.2f GB) into the store", model.uri, model.dimensions.bytes / 1e9)
        fetch_model(told.model, model, folder, access)
        meta = {"name": model.name, "uri": model.uri, "revision": model.revision, "digest": model.digest}
        source = told.model.source
    else:
        adapter = told.resolved.adapter
        assert adapter is not None  # noqa: S101  # the plan has this output only then
        fetch_adapter(told.model, adapter, folder, access)
        meta = {"name": None, "uri": adapter.uri, "revision": adapter.revision, "digest": adapter.digest}
        source = str(told.model.adapter)
    # What was downloaded is ours to give away; a user's own files are only linked in scratch.
    ours = parse_source(source).scheme is not Scheme.FILE
    artifacts.commit(output.kind, output.key, folder, meta=meta, give=ours, replace=True)
    shutil.rmtree(folder)


def _lay_out(dataset: Dataset, pinned: ResolvedDataset, at: Path, access: Access) -> None:
    fetched: Fetched = resolve_dataset(dataset, access, pinned.revision)
    if fetched.resolved.digest != pinned.digest:
        raise StageFailure(
            FailureClass.SOURCE_UNAVAILABLE,
            f"{dataset.source} has changed since this job was made",
            "Make a new job (another name or another output folder) to use the new content.",
        )
    at.mkdir(parents=True, exist_ok=True)
    for file in fetched.resolved.files:
        target = at / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to((fetched.folder / file.path).resolve())
