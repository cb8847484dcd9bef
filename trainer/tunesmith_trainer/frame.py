"""The frame around every stage: skip what is there, fetch inputs, do the work, commit, log, classify, answer."""

import importlib
import logging
import resource
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunesmith.llama_cpp import find_tools
from tunesmith.store import Artifacts, Manifest, open_store
from tunesmith.store.checkpoints import Checkpoints
from tunesmith.store.folders import files_below
from tunesmith.store.publication import deliver, make_known
from tunesmith.store.runs import new_run, refresh_run
from tunesmith_api.failures import FailureClass
from tunesmith_api.settings import PublishSettings
from tunesmith_api.stages import ArtifactReference, Kind, Stage, StageRequest, StageResult, failure_of
from tunesmith_trainer import publish
from tunesmith_trainer.classify import classified
from tunesmith_trainer.gather import gather
from tunesmith_trainer.interruption import Interruption
from tunesmith_trainer.live_metrics import served
from tunesmith_trainer.made import made_by
from tunesmith_trainer.publication.hub import push
from tunesmith_trainer.report_progress import ProgressPoster, no_progress
from tunesmith_trainer.resolving import found, is_open, resolved_request
from tunesmith_trainer.stage_log import LOG_FILE, keep_log, log_to
from tunesmith_trainer.work import Outcome, Progress, StageEntry, Work, moving

log = logging.getLogger(__name__)


# What an earlier call of the same stage may have left half fetched in its working folder, and need not fetch again.
_FETCHED = {Stage.PREPARE: frozenset({Kind.BASE.value, Kind.ADAPTER.value})}


@dataclass(slots=True)
class Call:
    """One call under way: its request, its folders, the store, and whether it is to stop.

    `fetched` keeps what was downloaded and verified; `scratch` is emptied for every call.
    """

    request: StageRequest
    scratch: Path
    fetched: Path
    artifacts: Artifacts
    interruption: Interruption
    replace: bool = False

    @property
    def secrets(self) -> Path | None:
        """The folder that has one folder per Secret."""
        return None if self.request.secrets is None else Path(self.request.secrets)


def execute(request: StageRequest, scratch: Path) -> tuple[StageResult, int]:
    """Run one stage to its result and exit code; never raises."""
    started = time.monotonic()
    log_to(scratch / LOG_FILE)
    interruption = Interruption(request.stage)
    call = None
    try:
        with interruption.heeded():
            secrets = None if request.secrets is None else Path(request.secrets)
            artifacts = Artifacts(open_store(request.store, secrets), request.store.namespace)
            work = emptied(scratch / "work", _FETCHED.get(request.stage, frozenset()))
            call = Call(request, work, scratch / "inputs", artifacts, interruption)
            result = _run_resolved(call) if is_open(request) else _run(call)
        code = 0
    except BaseException as error:  # noqa: BLE001  # the edge of the process: whatever it is becomes a result
        failure = classified(error)
        # Classified, so no traceback is needed; to be stopped is no error.
        level = logging.INFO if failure.failure is FailureClass.INTERRUPTED else logging.ERROR
        log.log(level, "%s: %s", failure.failure, failure.message)
        result = StageResult(stage=request.stage, name=_variant(request), failure=failure_of(failure, request.stage))
        code = failure.exit_code
    if call is not None:
        keep_log(call.request, call.artifacts, scratch / LOG_FILE)
    spent = {"seconds": round(time.monotonic() - started, 3), "cpu_seconds": _cpu_seconds()}
    return result.model_copy(update=spent), code


def _cpu_seconds() -> float:
    """The processor time of this process, which runs one stage, and of the tools that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return round(sum(each.ru_utime + each.ru_stime for each in used), 3)


def emptied(folder: Path, keep: Collection[str] = ()) -> Path:
    """The folder, made or without what a call that was killed left in it, but for `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name in keep:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return folder


def _run_resolved(call: Call) -> StageResult:
    """prepare where nobody has resolved the sources before it: what it found is for whoever plans the rest."""
    call.request, plan, resolved = resolved_request(call.request)
    result = _run(call, plan.keys())
    return result.model_copy(update={"figures": {**result.figures, **found(plan, resolved, call.artifacts)}})


def _run(call: Call, planned: Iterable[tuple[str, str]] = ()) -> StageResult:
    request = call.request
    _keep_alive(call, planned)
    there = None if request.replace else _all_there(call)
    call.replace = request.replace or (there is not None and not _still_names(call, there[0]))
    if there is not None and not call.replace:
        log.info("%s is in the store already", request.stage)
        if request.stage is Stage.PUBLISH:
            _announce(call)
        figures = there[0].meta.get("figures", {})
        return StageResult(stage=request.stage, name=_variant(request), reused=True, figures=figures)
    # Of a large model most of the time goes into what is fetched and stored.
    with _progress(request) as progress:
        if request.stage is Stage.PREPARE:
            gather(request, call.artifacts, call.scratch, progress)
        manifests = {reference: call.artifacts.expect(reference.kind, reference.key) for reference in _reads(request)}
        work = _fetched(call, manifests, progress)
        entry: StageEntry = importlib.import_module(f"tunesmith_trainer.{request.stage.value}").run
        outcome = entry(work)
        progress(1.0, moving("storing", sum(_size(made.folder) for made in outcome.outputs.values())))
        _commit(call, outcome, manifests)
    if request.stage in (Stage.TRAIN, Stage.IMATRIX):
        _checkpoints(call).drop_all()
    if request.stage is Stage.PUBLISH:
        _announce(call)
    return StageResult(stage=request.stage, name=_variant(request), figures=dict(outcome.figures))


def _announce(call: Call) -> None:
    """Make a publication readable in the store, and push it to the hub that the job names (again: costs a look)."""
    make_known(call.artifacts, call.request)
    hub = PublishSettings.model_validate(call.request.settings).hub
    if hub is not None:
        folder = call.scratch / "published"
        deliver(call.artifacts, call.request.outputs[0].key, folder)
        push(folder, hub, call.secrets)


def _keep_alive(call: Call, planned: Iterable[tuple[str, str]]) -> None:
    """Tell gc that this run still needs what it reads and makes, and what is planned after it."""
    request = call.request
    keys = [(reference.kind.value, reference.key) for reference in (*request.inputs, *request.outputs)]
    run = new_run(request.job.uid, request.job.name, [*keys, *planned])
    refresh_run(call.artifacts.store, call.artifacts.namespace, run)


def _all_there(call: Call) -> list[Manifest] | None:
    """The manifests of all outputs, None if one is absent; a damaged one is told before the work, not after it."""
    found = [call.artifacts.find(output.kind, output.key) for output in call.request.outputs]
    whole = [manifest for manifest in found if manifest is not None]
    return whole if len(whole) == len(found) else None


def _still_names(call: Call, publication: Manifest) -> bool:
    """Whether a publication was made of what is in the store now: what was damaged since has other digests again."""
    if call.request.stage is not Stage.PUBLISH:
        return True
    now = [call.artifacts.expect(reference.kind, reference.key).reference() for reference in call.request.inputs]
    return {(item.kind, item.key, item.manifest_digest) for item in now} == {
        (item.kind, item.key, item.manifest_digest) for item in publication.inputs
    }


def _reads(request: StageRequest) -> tuple[ArtifactReference, ...]:
    """The inputs; prepare reads the base that it has just mirrored."""
    if request.stage is Stage.PREPARE:
        return tuple(output for output in request.outputs if output.kind is Kind.BASE)
    return request.inputs


def _still_wanted(call: Call) -> tuple[ArtifactReference, ...]:
    """The outputs without those beside the first that are in the store: the base's GGUF is made once for all jobs."""
    first, *others = call.request.outputs
    return (first, *(item for item in others if call.replace or not call.artifacts.holds(item.kind, item.key)))


def _only(call: Call) -> Collection[str] | None:
    """Which files of its inputs a stage reads; None for all."""
    return publish.READS if call.request.stage is Stage.PUBLISH else None


def _to_fetch(call: Call, manifests: Mapping[ArtifactReference, Manifest]) -> int | None:
    """The bytes that a stage reads, None where they are read in place."""
    if call.artifacts.store.local_path(call.artifacts.namespace) is not None:
        return None
    only = _only(call)
    entries = (entry for manifest in manifests.values() for entry in manifest.files)
    return sum(entry.size for entry in entries if only is None or entry.path in only)


def _fetched(call: Call, manifests: Mapping[ArtifactReference, Manifest], progress: Progress) -> Work:
    """The work, once its inputs are here; what is read in place is not told of."""
    size = _to_fetch(call, manifests)
    if size is None:
        return _work(call, manifests, progress)
    progress(0.0, moving("fetching", size))
    work = _work(call, manifests, progress)
    progress(0.0, {"phase": ""})
    return work


def _work(call: Call, manifests: Mapping[ArtifactReference, Manifest], progress: Progress) -> Work:
    folders = {
        reference: call.artifacts.open(reference.kind, reference.key, call.fetched, _only(call))
        for reference in manifests
    }
    return Work(
        request=call.request.model_copy(update={"outputs": _still_wanted(call)}),
        inputs={reference.kind: folder for reference, folder in folders.items() if reference.name is None},
        named={(ref.kind, ref.name): folder for ref, folder in folders.items() if ref.name is not None},
        meta={reference.kind: manifest.meta for reference, manifest in manifests.items()},
        manifests=manifests,
        scratch=call.scratch,
        progress=progress,
        interrupted=call.interruption.asked,
        await_step=call.interruption.await_step,
        tools=find_tools,
        checkpoints=_Kept(_checkpoints(call)) if call.request.stage in (Stage.TRAIN, Stage.IMATRIX) else None,
        secrets=call.secrets,
    )


@dataclass(frozen=True, slots=True)
class _Kept:
    """The store's checkpoints as a stage sees them."""

    kept: Checkpoints

    def save(self, step: int, folder: Path) -> None:
        self.kept.save(step, folder)

    def newest(self, into: Path) -> tuple[int, Path] | None:
        found = self.kept.fetch_newest(into)
        return None if found is None else (found[0], into / str(found[0]))


def _checkpoints(call: Call) -> Checkpoints:
    return Checkpoints(call.artifacts.store, call.artifacts.namespace, call.request.outputs[0].key)


def _commit(call: Call, outcome: Outcome, manifests: Mapping[ArtifactReference, Manifest]) -> None:
    """Store what was made; the stage's main output last, so that its presence says that all are there."""
    for output in reversed(call.request.outputs):
        made = outcome.outputs.get(output.kind)
        if made is None:
            continue
        headline = dict(outcome.figures) if output == call.request.outputs[0] else {}
        call.artifacts.commit(
            output.kind,
            output.key,
            made.folder,
            inputs=[manifest for reference, manifest in manifests.items() if reference != output],
            made=made_by(call.request.stage),
            meta={**made.meta, "figures": headline},
            replace=call.replace,
            give=True,
        )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in files_below(folder))


def _variant(request: StageRequest) -> str | None:
    return request.outputs[0].name if request.outputs else None


@contextmanager
def _progress(request: StageRequest) -> Iterator[Progress]:
    with ExitStack() as stack:
        told: Progress = no_progress
        if request.progress is not None:
            told = poster = ProgressPoster(request.progress)
            stack.callback(poster.close)
        if request.metrics_port is not None:
            told = stack.enter_context(served(told, request.metrics_port))
        yield told
