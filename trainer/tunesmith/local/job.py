"""A manifest and an output folder become a job that can be carried out: record, pinned sources, plan and site."""

import fcntl
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.cache import cache_dir
from tunesmith.cel import violations
from tunesmith.gpu import has_gpu
from tunesmith.local.disk import refuse_small_disks
from tunesmith.local.places import refuse_store, refuse_unwritable
from tunesmith.local.record import Record, read_record, write_record
from tunesmith.local.runner import Site, stages_at_once
from tunesmith.manifest import ManifestText, load_manifest
from tunesmith.memory import available_memory
from tunesmith.published_names import OWN_FOLDER
from tunesmith.resolve import Access, resolve
from tunesmith.resolve.drift import drifted
from tunesmith.secrets import secrets_root
from tunesmith.store import Artifacts, open_store
from tunesmith.store.address import absolute_address
from tunesmith.store.runs import new_run, refresh_run
from tunesmith_api.effective import resolve_settings
from tunesmith_api.execution import Reach, location_of, prepare_execution, train_execution
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.needs import memory_bytes, space_of
from tunesmith_api.plan import Plan, PlannedStage, make_plan
from tunesmith_api.resolved import Resolved
from tunesmith_api.schedule import Room
from tunesmith_api.spec import FineTuneJob
from tunesmith_api.stages import JobReference, Stage, StoreLocation


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command was called with."""

    manifest: ManifestText
    output: Path | None = None
    store: str | None = None
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class LocalJob:
    """A job on this machine: the spec as written and read, its record, its plan, and where it runs.

    `drifted` are the fields of sources that have changed since they were pinned.
    """

    job: FineTuneJob
    written: dict[str, Any]
    record: Record
    plan: Plan
    site: Site
    drifted: tuple[str, ...] = ()


def open_job(wanted: Wanted) -> LocalJob:
    """Read, resolve and plan; nothing is started and nothing written but the sources' cache.

    Raises `ManifestInvalid`, and `StageFailure` of the classes that resolving raises.
    """
    job = load_manifest(wanted.manifest)
    written = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    location = store_location(job, wanted)
    store = open_store(location, secrets_root())
    refuse_store(store)
    # --store moves the artifacts, not the sources: these stay where the manifest says.
    access = source_access(wanted.manifest, store_location(job, Wanted(wanted.manifest)))
    record = recorded(wanted.output, Record(manifest=written, store=location.uri, namespace=location.namespace))
    resolved, changed = record.resolved, tuple[str, ...]()
    if resolved is None or not record.stages:
        resolved = resolve(job.spec, access)
        record = _anew(record, written, resolved)
    else:
        changed = drifted(job.spec, resolved, access)
    artifacts = Artifacts(store, location.namespace)
    plan = make_plan(job.metadata.name, job.spec, resolved, record.recorded_keys())
    record = _still_true(record.model_copy(update={"manifest": written}), plan, artifacts)
    site = Site(
        job=JobReference(name=job.metadata.name, namespace=location.namespace, uid=record.uid),
        output=wanted.output or Path(),
        scratch=cache_dir() / "scratch" / record.uid,
        location=location,
        artifacts=artifacts,
        secrets=access.secrets,
        room=_room(job, plan, resolved),
        execution=lambda stage: execution_of(stage, job, record, access),
    )
    return LocalJob(job, written, record, plan, site, changed)


def _room(job: FineTuneJob, plan: Plan, resolved: Resolved) -> Room:
    """Two stages of a model that hardly fits into memory would both read it from disk again and again."""
    values = resolve_settings(job.metadata.name, job.spec, resolved)
    gpu = _uses_gpu(job)
    needs = {stage.name: memory_bytes(stage, resolved, values, gpu=gpu) for stage in plan.stages}
    # Where nothing is known of it (macOS), all there is.
    return Room(stages_at_once(), available_memory() or math.inf, needs)


def _uses_gpu(job: FineTuneJob) -> bool:
    """On one machine a GPU is used if there is one; asking for it in the manifest makes it a condition."""
    return job.spec.training.gpu is not None or has_gpu()


def store_location(job: FineTuneJob, wanted: Wanted) -> StoreLocation:
    """Where artifacts live: ``--store``, else the manifest's store, else a folder in the user's cache (contract 7).

    A folder's path is absolute: stages work in other folders. A relative one starts from the working folder where the
    call names it, from the manifest's folder where that does.
    """
    namespace = wanted.namespace or job.metadata.namespace or "default"
    store = job.spec.store
    if wanted.store is not None or store is None:
        uri = absolute_address(wanted.store, Path.cwd()) if wanted.store else str(cache_dir() / "store")
        return StoreLocation(uri=uri, namespace=namespace)
    uri = absolute_address(store.uri, wanted.manifest.folder)
    return location_of(store, namespace).model_copy(update={"uri": uri})


def source_access(manifest: ManifestText, location: StoreLocation) -> Access:
    """How a local run reaches its sources: paths from the manifest's folder, S3 as the store's."""
    return Access(
        manifest.folder,
        secrets_root(),
        endpoint=location.endpoint,
        region=location.region,
        ca_secret=location.ca_secret,
        store_secret=location.secret,
    )


def execution_of(stage: PlannedStage, job: FineTuneJob, record: Record, access: Access) -> dict[str, Any]:
    """What a stage is told beside its settings: where the sources are, how much memory training may use."""
    spec = job.spec
    if stage.stage is Stage.PREPARE:
        assert record.resolved is not None  # noqa: S101  # open_job resolves
        s3 = (access.endpoint, access.region, access.ca_secret, access.store_secret)
        reach = Reach(str(access.base), *s3)
        return prepare_execution(job.metadata.name, spec, record.resolved, reach).to_json_dict()
    if stage.stage is Stage.TRAIN:
        return train_execution(spec.training, use_gpu=_uses_gpu(job)).to_json_dict()
    return {}


def recorded(output: Path | None, fresh: Record) -> Record:
    """The record of an output folder; `fresh` where it has none, or none that anything was made for.

    Raises `SpecInvalid` where the folder holds what was made for another job.
    """
    known = None if output is None else read_record(output)
    if known is None:
        return fresh
    changed = _changed(known, fresh)
    if not changed:
        return known
    if not known.stages:
        return fresh
    was, now = known.manifest["metadata"]["name"], fresh.manifest["metadata"]["name"]
    other = f"holds job '{was}', this is '{now}'"
    raise StageFailure(
        FailureClass.SPEC_INVALID,
        f"{output} " + (other if was != now else f"holds job '{now}' as it was before: " + "; ".join(changed)),
        "Choose another --output for the changed job; what has not changed is used again from the store.",
    )


def _changed(known: Record, fresh: Record) -> list[str]:
    """In sentences, what keeps the results of `known` from being those of `fresh`."""
    changed = [str(problem) for problem in violations(fresh.manifest, known.manifest)]
    if (known.store, known.namespace) != (fresh.store, fresh.namespace):
        changed.append(f"the store was {known.store} (namespace {known.namespace})")
    if known.manifest["metadata"]["name"] != fresh.manifest["metadata"]["name"]:
        changed.append(f"metadata.name was {known.manifest['metadata']['name']}")
    return changed


def _anew(record: Record, written: dict[str, Any], resolved: Resolved) -> Record:
    """The record of a job that nothing was made for yet: another one where manifest or sources have changed since."""
    if record.resolved == resolved and record.manifest == written:
        return record
    return Record(manifest=written, store=record.store, namespace=record.namespace, resolved=resolved)


def _still_true(record: Record, plan: Plan, artifacts: Artifacts) -> Record:
    """Without the results that the plan no longer asks for or whose artifacts are gone or damaged.

    publish's result holds only with all others: it names what they made.
    """
    kept = {}
    for stage in plan.stages:
        known = record.stages.get(stage.name)
        if known is None or known.keys.outputs != stage.recorded_keys().outputs:
            continue
        if all(artifacts.holds(output.kind, output.key) for output in stage.outputs):
            kept[stage.name] = known
    if len(kept) < len(plan.stages):
        kept.pop(Stage.PUBLISH, None)
    names = {stage.name for stage in plan.stages}
    repeat = tuple(name for name in record.repeat if name in names)
    return record.model_copy(update={"stages": kept, "repeat": repeat})


@contextmanager
def held(output: Path) -> Iterator[None]:
    """Keep a second run out of an output folder; `SpecInvalid` if one is in it, or no folder can be made there."""
    refuse_unwritable("the output folder", output)
    folder = output / OWN_FOLDER
    fresh = [place for place in (folder, output) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = (folder / "lock").open("w")
    except OSError as error:
        raise StageFailure(
            FailureClass.SPEC_INVALID,
            f"{output} cannot be the folder for the result: {error.strerror}",
            "Choose another --output: a folder that you may write to, or a name that is free.",
        ) from error
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageFailure(
                FailureClass.SPEC_INVALID,
                f"another run is working in {output}",
                "Wait for it, or choose another --output.",
            ) from error
        try:
            yield
        finally:
            _tidy(folder / "lock", fresh)


def _tidy(lock: Path, fresh: Sequence[Path]) -> None:
    """Folders that were made for a run which then began nothing go again."""
    # What somebody else has put there stays, or is gone already.
    with suppress(OSError):
        if fresh and list(lock.parent.iterdir()) == [lock]:
            lock.unlink()
            for place in fresh:
                place.rmdir()


def still_to_make(local: LocalJob) -> tuple[PlannedStage, ...]:
    """The stages that have work to do as record and store stand; publish only looks and copies, and does not count."""

    def has_work(stage: PlannedStage) -> bool:
        if stage.stage is Stage.PUBLISH or stage.name in local.record.stages:
            return False
        there = all(local.site.artifacts.holds(output.kind, output.key) for output in stage.outputs)
        return stage.name in local.record.repeat or not there

    return tuple(stage for stage in local.plan.stages if has_work(stage))


def refuse_disks(local: LocalJob, stages: Sequence[PlannedStage]) -> None:
    """Raises `DoesNotFit` or `DiskFull` where what these stages make finds no room on this machine."""
    resolved = local.record.resolved
    assert resolved is not None  # noqa: S101  # open_job resolves
    values = resolve_settings(local.job.metadata.name, local.job.spec, resolved)
    spaces = [space_of(stage, resolved, values) for stage in stages]
    refuse_small_disks(spaces, local.site.artifacts.store.local_path(local.site.location.namespace), local.site.scratch)


def begin(local: LocalJob) -> LocalJob:
    """Write the record before anything runs, so that sources stay pinned and gc keeps what the plan needs."""
    record = local.record.running()
    write_record(local.site.output, record)
    artifacts, job = local.site.artifacts, local.site.job
    refresh_run(artifacts.store, artifacts.namespace, new_run(job.uid, job.name, list(local.plan.keys())))
    return replace(local, record=record)
