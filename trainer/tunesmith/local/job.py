"""A manifest and an output folder become a job that can be carried out: record, pinned sources, plan and site."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.cache import cache_dir
from tunesmith.cel import violations
from tunesmith.local.record import FOLDER, Record, read_record, write_record
from tunesmith.local.runner import Site, stages_at_once
from tunesmith.manifest import load_manifest
from tunesmith.resolve import Access, resolve
from tunesmith.secrets import secrets_root
from tunesmith.store import Artifacts, open_store
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.plan import Plan, PlannedStage, make_plan
from tunesmith_api.settings import TrainExecution
from tunesmith_api.spec import FineTuneJob
from tunesmith_api.stages import JobReference, Stage, StoreLocation


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command was called with."""

    manifest: Path
    output: Path | None = None
    store: str | None = None
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class LocalJob:
    """A job on this machine: the spec as written and read, its record, its plan, and where it runs."""

    job: FineTuneJob
    written: dict[str, Any]
    record: Record
    plan: Plan
    site: Site


def open_job(wanted: Wanted) -> LocalJob:
    """Read, resolve and plan; nothing is started and nothing written but the sources' cache.

    Raises `ManifestInvalid`, and `StageFailure` of the classes that resolving raises.
    """
    job = load_manifest(wanted.manifest)
    written = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    location = store_location(job, wanted)
    record = _record(wanted, written, location)
    access = source_access(wanted.manifest, location)
    resolved = record.resolved or resolve(job.spec, access)
    artifacts = Artifacts(open_store(location, access.secrets), location.namespace)
    plan = make_plan(job.metadata.name, job.spec, resolved, record.recorded_keys())
    record = _still_true(record.model_copy(update={"resolved": resolved, "manifest": written}), plan, artifacts)
    site = Site(
        job=JobReference(name=job.metadata.name, namespace=location.namespace, uid=record.uid),
        output=wanted.output or Path(),
        scratch=cache_dir() / "scratch" / record.uid,
        location=location,
        artifacts=artifacts,
        secrets=access.secrets,
        at_once=stages_at_once(),
        execution=lambda stage: execution_of(stage, job, record, access),
    )
    return LocalJob(job, written, record, plan, site)


def store_location(job: FineTuneJob, wanted: Wanted) -> StoreLocation:
    """Where artifacts live: ``--store``, else the manifest's store, else a folder in the user's cache (contract 7)."""
    namespace = wanted.namespace or job.metadata.namespace or "default"
    store = job.spec.store
    if wanted.store is not None or store is None:
        return StoreLocation(uri=wanted.store or str(cache_dir() / "store"), namespace=namespace)
    return StoreLocation(
        uri=store.uri,
        endpoint=store.endpoint,
        region=store.region,
        secret=None if store.secret_ref is None else store.secret_ref.name,
        ca_secret=None if store.ca_secret_ref is None else store.ca_secret_ref.name,
        namespace=namespace,
    )


def source_access(manifest: Path, location: StoreLocation) -> Access:
    """How a local run reaches its sources: paths from the manifest's folder, S3 as the store's."""
    return Access(
        manifest.resolve().parent,
        secrets_root(),
        endpoint=location.endpoint,
        region=location.region,
        ca_secret=location.ca_secret,
    )


def execution_of(stage: PlannedStage, job: FineTuneJob, record: Record, access: Access) -> dict[str, Any]:
    """What a stage is told beside its settings: where the sources are, how much memory training may use."""
    spec = job.spec
    if stage.stage is Stage.PREPARE:
        told = {
            "model": spec.model.to_json_dict(),
            "datasets": [dataset.to_json_dict() for dataset in spec.datasets],
            "evaluation": spec.evaluation.to_json_dict(),
            "resolved": None if record.resolved is None else record.resolved.to_json_dict(),
            "folder": str(access.base),
            "endpoint": access.endpoint,
            "region": access.region,
            "caSecret": access.ca_secret,
        }
        return {name: value for name, value in told.items() if value is not None}
    if stage.stage is Stage.TRAIN:
        training = spec.training
        # On one machine a GPU is used if there is one; asking for it in the manifest makes it a condition.
        gpu = training.gpu is not None or Path("/dev/nvidia0").exists()
        return TrainExecution(
            batch_size=training.batch_size,
            gradient_checkpointing=training.gradient_checkpointing,
            save_every=training.save_every,
            use_gpu=gpu,
        ).to_json_dict()
    return {}


def _record(wanted: Wanted, written: dict[str, Any], location: StoreLocation) -> Record:
    fresh = Record(manifest=written, store=location.uri, namespace=location.namespace)
    known = None if wanted.output is None else read_record(wanted.output)
    if known is None:
        return fresh
    changed = [str(problem) for problem in violations(written, known.manifest)]
    if (known.store, known.namespace) != (location.uri, location.namespace):
        changed.append(f"the store was {known.store} (namespace {known.namespace})")
    if known.manifest["metadata"]["name"] != written["metadata"]["name"]:
        changed.append(f"metadata.name was {known.manifest['metadata']['name']}")
    if changed:
        raise StageFailure(
            FailureClass.SPEC_INVALID,
            f"{wanted.output} holds the result of another job: " + "; ".join(changed),
            "Choose another --output for the changed job; what has not changed is used again from the store.",
        )
    return known


def _still_true(record: Record, plan: Plan, artifacts: Artifacts) -> Record:
    """Without the results that the plan no longer asks for or whose artifacts are gone."""
    kept = {}
    for stage in plan.stages:
        known = record.stages.get(stage.name)
        if known is None or known.keys.outputs != {output.kind.value: output.key for output in stage.outputs}:
            continue
        if all(artifacts.find(output.kind, output.key) for output in stage.outputs):
            kept[stage.name] = known
    return record.model_copy(update={"stages": kept})


@contextmanager
def held(output: Path) -> Iterator[None]:
    """Keep a second run out of an output folder; `SpecInvalid` if one is in it."""
    folder = output / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageFailure(
                FailureClass.SPEC_INVALID,
                f"another run is working in {output}",
                "Wait for it, or choose another --output.",
            ) from error
        yield


def begin(local: LocalJob) -> LocalJob:
    """Write the record before anything runs, so that the sources stay pinned whatever happens."""
    record = local.record.model_copy(update={"phase": "Running", "failure": None})
    write_record(local.site.output, record)
    return replace(local, record=record)
