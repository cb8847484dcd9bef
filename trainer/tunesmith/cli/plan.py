"""``tunesmith plan``: what would run, with every setting and where it came from; nothing runs."""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from tunesmith.cli.notes import notes_on, notes_on_drift, notes_on_memory
from tunesmith.cli.options import Manifest, Namespace, StoreUri, given_path
from tunesmith.cli.terminal import terminal
from tunesmith.cli.view import duration
from tunesmith.cores import usable_cores
from tunesmith.figures import megabytes
from tunesmith.local.job import LocalJob, Wanted, open_job
from tunesmith.local.places import refuse_unwritable
from tunesmith.manifest import load_manifest, read_manifest
from tunesmith.processor import cpu_flags, native_bf16
from tunesmith.resolve.uri import Scheme, local_path, parse_source
from tunesmith_api.effective import resolve_settings
from tunesmith_api.estimates import Estimate, Known, estimate
from tunesmith_api.origins import Setting, settings_table
from tunesmith_api.resolved import Resolved
from tunesmith_api.stages import Stage

_JSONL = (".jsonl", ".ndjson")
Json = Annotated[bool, typer.Option("--json", help="Write the plan as JSON.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="The folder that a run would go on in. [default: ./NAME]",
        parser=given_path,
        metavar="<path>",
    ),
]


def plan(
    manifest: Manifest,
    output: Output = None,
    store: StoreUri = None,
    namespace: Namespace = None,
    as_json: Json = False,
) -> None:
    """Show the stages, what is in the store already, every setting with its origin, and estimates.

    Example: `tunesmith plan job.yaml`
    """
    # As `run` does: what its folder remembers decides what is pinned, which keys hold, and what is refused.
    text = read_manifest(manifest)
    folder = output or Path(load_manifest(text).metadata.name)
    refuse_unwritable("the output folder", folder)
    local = open_job(Wanted(text, folder, store, namespace))
    resolved = local.record.resolved
    assert resolved is not None  # noqa: S101  # open_job resolves
    values = resolve_settings(local.job.metadata.name, local.job.spec, resolved)
    types = tuple(type_.value for type_ in local.job.spec.quantizations)
    there = {stage.name: _in_store(local, stage.name) for stage in local.plan.stages}
    left = _left(there)
    known = Known(rows=_rows_here(resolved, text.folder), left=left, bf16=native_bf16(cpu_flags()))
    expected = estimate(resolved, values, types, known)
    settings = settings_table(local.written, local.job.spec, resolved)
    notes = (
        *notes_on(local.job, trains=Stage.TRAIN in left),
        *notes_on_drift(local.drifted),
        *notes_on_memory(local.site.room, left),
    )
    if as_json:
        told = _document(local, settings, expected, there) | {"notes": notes}
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
        return
    console = terminal()
    # A line of its own: a table's title is folded to the table's width, and a path could not be copied.
    console.print(f"Stages (store: {local.site.location.uri})", soft_wrap=True)
    console.print(_stages(local, there), _settings(settings), _estimates(local, expected, there))
    for line in (*notes, *_rows_unread(there, manifest)):
        console.print(f"\n{line}", soft_wrap=True)


def _rows_unread(there: dict[str, bool], manifest: Path) -> tuple[str, ...]:
    """A sentence where nobody has looked at the rows yet."""
    if there[Stage.PREPARE]:
        return ()
    # A pipe has been read to its end: its name would find nothing.
    named = shlex.quote(str(manifest)) if manifest.is_file() else "JOB.YAML"
    return (f"Rows were not looked at: tunesmith validate {named}",)


def _left(there: Mapping[str, bool]) -> tuple[str, ...]:
    """The stages whose outputs are not in the store yet."""
    return tuple(name for name, found in there.items() if not found)


def _in_store(local: LocalJob, name: str) -> bool:
    outputs = local.plan.stage(name).outputs
    return all(local.site.artifacts.holds(output.kind, output.key) for output in outputs)


def _rows_here(resolved: Resolved, base: Path) -> int | None:
    """How many rows the datasets have, where all of them are JSONL on this machine: counted by their lines."""
    rows = 0
    for dataset in resolved.datasets:
        source = parse_source(dataset.uri)
        if source.scheme is not Scheme.FILE or not all(file.path.endswith(_JSONL) for file in dataset.files):
            return None
        path = local_path(source, base)
        try:
            for file in dataset.files:
                with (path / file.path if path.is_dir() else path).open("rb") as lines:
                    rows += sum(1 for line in lines if line.strip())
        except OSError:  # a finished job's rows may be gone
            return None
    return rows


def _stages(local: LocalJob, there: dict[str, bool]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("stage", "key", "", "after"):
        table.add_column(name, no_wrap=name != "after", overflow="fold")
    for stage in local.plan.stages:
        state = Text("in the store", style="green") if there[stage.name] else "will run"
        table.add_row(stage.name, stage.key[:12], state, ", ".join(stage.needs))
    return table


def _settings(settings: tuple[Setting, ...]) -> Table:
    table = Table(box=None, title="\nSettings", title_justify="left", pad_edge=False)
    # The value last: it may be a long prompt, and would push what stands behind it out of sight.
    for name in ("field below spec", "from", "value"):
        table.add_column(name, no_wrap=name not in ("from", "value"), overflow="fold")
    for setting in settings:
        value = setting.value if isinstance(setting.value, str) else json.dumps(setting.value)
        table.add_row(setting.path, setting.origin, value)
    return table


def _estimates(local: LocalJob, expected: Estimate, there: dict[str, bool]) -> Table:
    table = Table(box=None, title="\nEstimates", title_justify="left", pad_edge=False, show_header=False)
    for name, size in expected.file_bytes.items():
        table.add_row(f"size of {name}", f"{megabytes(size)} MB")
    table.add_row("disk, store and scratch, in all", f"{expected.disk_bytes / 1e9:.1f} GB")
    stage, memory = local.site.room.hungriest(_left(there))
    if memory:
        table.add_row("memory", f"{memory / 1e9:.1f} GB, for {stage}")
    table.add_row("left to download", f"{expected.download_bytes / 1e9:.2f} GB")
    table.add_row("tokens to train on", f"{expected.train_tokens:,}")
    cores = usable_cores()
    done = all(there.values())
    left = "0s (nothing is left to do)" if done else f"about {duration(expected.seconds / cores)}"
    trains = Stage.TRAIN in there and not there[Stage.TRAIN]
    faster = "; less on the GPU that training asks for" if trains and local.job.spec.training.gpu is not None else ""
    table.add_row(f"time left on this machine's {cores} cores", left + faster)
    return table


def _document(
    local: LocalJob, settings: tuple[Setting, ...], expected: Estimate, there: dict[str, bool]
) -> dict[str, Any]:
    return {
        "job": local.job.metadata.name,
        "store": local.site.location.uri,
        "stages": [{**stage.to_json_dict(), "inStore": there[stage.name]} for stage in local.plan.stages],
        "settings": [{"path": row.path, "value": row.value, "from": row.origin} for row in settings],
        "estimates": {
            "fileBytes": expected.file_bytes,
            "diskBytes": expected.disk_bytes,
            "downloadBytes": expected.download_bytes,
            "memoryBytes": local.site.room.hungriest(_left(there))[1],
            "trainTokens": expected.train_tokens,
            "coreSeconds": expected.seconds,
        },
    }
