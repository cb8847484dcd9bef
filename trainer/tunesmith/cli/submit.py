"""``tunesmith submit``: a manifest becomes an object of a cluster; what lies on this machine goes into its store."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console

from tunesmith.cli.cluster_options import Context, InNamespace, Kubeconfig, StoreEndpoint
from tunesmith.cli.options import Manifest, given
from tunesmith.cli.terminal import terminal
from tunesmith.cli.validate import problems_of_files
from tunesmith.cluster.connection import Aim, Connection, connect
from tunesmith.cluster.jobs import apply_job, find_job, try_to_apply
from tunesmith.cluster.problem import wrong
from tunesmith.cluster.reach import StoreCall, artifacts_at, named_location, told_of_reach
from tunesmith.cluster.seen import SeenJob
from tunesmith.cluster.upload import Upload, local_fields, missing_of, put_file, uploads_of, with_uploads
from tunesmith.kubernetes_yaml import read_documents
from tunesmith.manifest import ManifestInvalid, ManifestText, Problem, load_manifest, read_manifest
from tunesmith.resolve.uri import Scheme
from tunesmith.store import Artifacts
from tunesmith.store.folders import in_parallel
from tunesmith.store.runs import new_run, refresh_run
from tunesmith_api.execution import location_of
from tunesmith_api.fields import spell
from tunesmith_api.spec import FineTuneJob
from tunesmith_api.stages import StoreLocation

_STORE = "Where --upload puts files, for a manifest without spec.store: the operator's default store."
_SECRET = "The Secret that reads --store, in the job's namespace: the operator's default."  # noqa: S105  # a name
DoUpload = Annotated[bool, typer.Option("--upload", help="Put file:// sources into the store, and name them there.")]
UploadStore = Annotated[str | None, typer.Option("--store", help=_STORE, parser=given, metavar="<s3://...>")]
StoreSecret = Annotated[str | None, typer.Option("--store-secret", help=_SECRET, parser=given, metavar="<text>")]
Force = Annotated[bool, typer.Option("--force-conflicts", help="Take over fields that others have set, kubectl too.")]

_UPLOAD = "add --upload, which puts it into the store, or name an s3://, hf:// or pvc:// source"


@dataclass(frozen=True, slots=True)
class _Target:
    """Where uploads go, how that is reached from here, and with which Secret pods read them."""

    location: StoreLocation
    secret: str | None
    artifacts: Artifacts


def submit(  # noqa: PLR0913, PLR0917  # each is an option of the command
    manifest: Manifest,
    upload: DoUpload = False,
    namespace: InNamespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    store: UploadStore = None,
    store_endpoint: StoreEndpoint = None,
    store_secret: StoreSecret = None,
    force_conflicts: Force = False,
) -> None:
    """Make the job in the cluster, or change it to what the manifest says; exit code 2 where something is wrong.

    Example: `tunesmith submit job.yaml --upload`
    """
    text = read_manifest(manifest)
    job = load_manifest(text)
    call = StoreCall(store, store_endpoint)
    uploading = upload and bool(local_fields(job))
    if not uploading:
        _refuse_without_upload(job, text, (call.uri, call.endpoint, store_secret))
    connection = connect(Aim(namespace, context, kubeconfig))
    where = connection.where(namespace, job.metadata.namespace)
    written = _in_namespace(job, where)
    before = find_job(connection, where, job.metadata.name)
    console = terminal()
    if uploading:
        target = _target(job, where, call, store_secret)
        uploads = _checked_uploads(job, text)
        written = with_uploads(written, uploads, target.location, target.secret)
        # What the API server will not take is not sent either.
        try_to_apply(connection, written, force=force_conflicts)
        with told_of_reach(store_endpoint):
            _send(uploads, target.artifacts, console)
        applied = _applied(connection, written, force_conflicts, uploads, target.artifacts)
    else:
        applied = apply_job(connection, written, force=force_conflicts)
    _tell(before, applied, console, _aimed(namespace, context, kubeconfig, where, connection))


def _refuse_without_upload(job: FineTuneJob, text: ManifestText, only_for_upload: Sequence[str | None]) -> None:
    """What no pod can read, with its lines; and options that would have no effect."""
    lines = read_documents(text.text)[0].lines
    problems = []
    for field in local_fields(job):
        what = f"{job.spec.sources()[field]} is of this machine, and no pod can read it"
        problems.append(Problem(spell(field), what, _UPLOAD, lines.get(field)))
    store = job.spec.store
    if store is not None and store.uri.startswith(f"{Scheme.FILE}://"):
        at = ("spec", "store", "uri")
        problems.append(Problem(spell(at), f"{store.uri}: pods share no folder", "name an S3 service", lines.get(at)))
    if problems:
        raise ManifestInvalid(problems, text.name, "")
    if any(only_for_upload):
        hint = "Leave them out: the manifest names no file of this machine."
        raise wrong("--store, --store-endpoint and --store-secret only say where --upload puts files", hint)


def _in_namespace(job: FineTuneJob, namespace: str) -> dict[str, Any]:
    """The manifest as it is written, without what is the operator's, and where it is to be."""
    written = job.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"status"})
    return {**written, "metadata": {**written["metadata"], "namespace": namespace}}


def _target(job: FineTuneJob, namespace: str, call: StoreCall, secret: str | None) -> _Target:
    store = job.spec.store
    if store is not None and (call.uri or secret):
        raise wrong("the manifest names its store and the Secret for it", "Leave out --store and --store-secret.")
    if store is None and call.uri is None:
        raise wrong(
            "the manifest names no store, so --upload does not know where to put files",
            "Set spec.store, or name the operator's default store with --store s3://bucket/prefix.",
        )
    location = location_of(store, namespace) if store is not None else named_location(call, namespace)
    read_with = location.secret or secret
    return _Target(location, read_with, artifacts_at(location.model_copy(update={"secret": read_with}), call.endpoint))


def _checked_uploads(job: FineTuneJob, text: ManifestText) -> tuple[Upload, ...]:
    """Files that a stage would refuse are not sent: gigabytes may be among them."""
    problems = problems_of_files(job, text)
    if problems:
        raise ManifestInvalid(list(problems), text.name, "")
    return uploads_of(job, text.folder)


def _send(uploads: Sequence[Upload], artifacts: Artifacts, console: Console) -> None:
    store, namespace = artifacts.store, artifacts.namespace
    for upload in uploads:
        missing = missing_of(upload, store, namespace)
        megabytes = sum(file.size for file in missing) / 1e6
        said = f"{len(missing)} files, {megabytes:.1f} MB" if missing else "in the store already"
        console.print(f"{spell(upload.field)}: {upload.name}: {said}", soft_wrap=True)
        in_parallel(lambda file, upload=upload: put_file(upload, file, store, namespace), missing)  # type: ignore[misc]


def _applied(
    connection: Connection, written: Mapping[str, Any], force: bool, uploads: Sequence[Upload], artifacts: Artifacts
) -> SeenJob:
    """The object, and a word to gc that it needs the uploads until prepare has read them."""
    applied = apply_job(connection, written, force=force)
    run = new_run(applied.uid, applied.name, []).model_copy(update={"uploads": tuple(each.digest for each in uploads)})
    refresh_run(artifacts.store, artifacts.namespace, run)
    return applied


def _tell(before: SeenJob | None, applied: SeenJob, console: Console, aimed: str) -> None:
    where = f"{applied.name} in the namespace {applied.namespace}"
    if before is None:
        console.print(f"{where} is created.", soft_wrap=True)
    elif before.generation == applied.generation:
        console.print(f"{where} has this spec already.", soft_wrap=True)
    else:
        console.print(f"{where} is changed.", soft_wrap=True)
    console.print(f"Follow it:  tunesmith status {applied.name} --watch{aimed}", soft_wrap=True)


def _aimed(namespace: str | None, context: str | None, kubeconfig: Any, where: str, connection: Connection) -> str:
    """The options that lead another command to the same job."""
    needed = where != connection.where() or namespace is not None
    options = {
        "-n": where if needed else None,
        "--context": context,
        "--kubeconfig": None if kubeconfig is None else str(kubeconfig),
    }
    return "".join(f" {name} {shlex.quote(value)}" for name, value in options.items() if value is not None)
