"""``tunesmith validate``: the manifest, and the dataset where it can be reached; nothing is trained."""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console

from tunesmith.cli.errors import WRONG, tell
from tunesmith.cli.run import Manifest
from tunesmith.local.job import Wanted, source_access, store_location
from tunesmith.manifest import ManifestInvalid, load_manifest
from tunesmith.resolve import resolve
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.spec import FineTuneJob

Json = Annotated[bool, typer.Option("--json", help="Write the problems as JSON.")]
Offline = Annotated[bool, typer.Option("--offline", help="Look at the manifest only, not at its sources.")]

# Sources that cannot be reached from here may well be reachable where the job runs.
_ELSEWHERE = {FailureClass.SOURCE_UNAVAILABLE, FailureClass.ACCESS_DENIED, FailureClass.SECRET_MISSING}


def validate(manifest: Manifest, offline: Offline = False, as_json: Json = False) -> None:
    """Check the manifest, and its model and dataset where they can be reached; exit code 2 where something is wrong.

    Example: `tunesmith validate job.yaml`
    """
    console = Console(stderr=as_json)
    try:
        job = load_manifest(manifest)
        notes = [] if offline else _check_sources(job, manifest)
    except ManifestInvalid as error:
        _refuse(error, [vars_of(problem) for problem in error.problems], console, as_json=as_json)
    except StageFailure as error:
        _refuse(
            error,
            [{"path": "spec", "line": None, "what": error.message, "right": error.hint}],
            console,
            as_json=as_json,
        )
    if as_json:
        sys.stdout.write(json.dumps({"valid": True, "problems": [], "notes": notes}) + "\n")
        return
    for note in notes:
        console.print(note, soft_wrap=True, highlight=False)
    console.print(f"{manifest}: {job.metadata.name} is valid.", highlight=False)


def vars_of(problem: object) -> dict[str, object]:
    """A problem as JSON."""
    return {name: getattr(problem, name) for name in ("path", "what", "right", "line")}


def _check_sources(job: FineTuneJob, manifest: Manifest) -> list[str]:
    access = source_access(manifest, store_location(job, Wanted(manifest)))
    try:
        resolved = resolve(job.spec, access)
    except StageFailure as error:
        if error.failure not in _ELSEWHERE:
            raise
        return [f"Not checked from here: {error.message}. {error.hint}"]
    from tunesmith.cli.rows import check_rows

    return check_rows(job, resolved, access)


def _refuse(error: StageFailure, problems: list[dict[str, object]], console: Console, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"valid": False, "problems": problems}) + "\n")
    else:
        tell(error, console)
    raise typer.Exit(WRONG)
