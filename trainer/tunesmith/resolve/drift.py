"""Which sources on this machine are no longer what a job was made for, which goes on with what was pinned."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from tunesmith.resolve import resolve_adapter, resolve_dataset, resolve_model
from tunesmith.resolve.listing import Access
from tunesmith.resolve.uri import Scheme
from tunesmith_api.failures import StageFailure
from tunesmith_api.resolved import Resolved, ResolvedDataset, ResolvedModel
from tunesmith_api.spec import JobSpec

_Pinned = ResolvedModel | ResolvedDataset


def drifted(spec: JobSpec, pinned: Resolved, access: Access) -> tuple[str, ...]:
    """The fields of ``file://`` sources that hold something else than was pinned; one that is gone is not among them.

    Files that have not been written since they were hashed are not read again.
    """
    return tuple(field for field, uri, was, look in _sources(spec, pinned, access) if _differs(uri, was, look))


def _sources(
    spec: JobSpec, pinned: Resolved, access: Access
) -> Iterator[tuple[str, str, _Pinned, Callable[[], _Pinned]]]:
    yield "spec.model.source", spec.model.source, pinned.model, lambda: resolve_model(spec.model, access)
    if spec.model.adapter is not None and pinned.adapter is not None:
        yield "spec.model.adapter", spec.model.adapter, pinned.adapter, lambda: resolve_adapter(spec.model, access)
    datasets = [(f"spec.datasets[{at}]", each) for at, each in enumerate(spec.datasets)]
    rows = list(zip(datasets, pinned.datasets, strict=True))
    if spec.evaluation.dataset is not None and pinned.evaluation is not None:
        rows.append((("spec.evaluation.dataset", spec.evaluation.dataset), pinned.evaluation))
    for (field, dataset), was in rows:
        yield f"{field}.source", dataset.source, was, lambda dataset=dataset: resolve_dataset(dataset, access).resolved  # type: ignore[misc]


def _differs(uri: str, was: _Pinned, look: Callable[[], _Pinned]) -> bool:
    if not uri.startswith(f"{Scheme.FILE}://"):
        return False
    with suppress(StageFailure):
        return look().digest != was.digest
    return False
