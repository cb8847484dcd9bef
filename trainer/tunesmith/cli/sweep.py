"""``tunesmith gc``: remove from the store what nothing published or running refers to."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cache import cache_dir
from tunesmith.cli.options import Namespace, StoreUri
from tunesmith.cli.terminal import terminal
from tunesmith.local.job import Wanted, store_location
from tunesmith.local.places import refuse_store
from tunesmith.local.scratch import sweep_cache
from tunesmith.manifest import load_manifest, read_manifest
from tunesmith.secrets import secrets_root
from tunesmith.store import FolderStore, open_store
from tunesmith.store.address import absolute_address
from tunesmith.store.gc import sweep
from tunesmith_api.stages import StoreLocation

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
StoreOf = Annotated[
    Path | None,
    typer.Option("--manifest", help="Sweep the store of this job, reached as the job does.", metavar="JOB.YAML"),
]
Endpoint = Annotated[str | None, typer.Option(help="The S3 service of an s3:// store.")]


def gc(  # noqa: PLR0913, PLR0917  # each is an option of the command
    store: StoreUri = None,
    namespace: Namespace = None,
    endpoint: Endpoint = None,
    manifest: StoreOf = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Sweep the store: what no published folder and no run of the last 30 days needs goes after 7 days.

    Working folders that killed runs have left in the cache, and sources that were fetched, go after 7 days too.

    Example: `tunesmith gc --dry-run`
    """
    location = _location(manifest, store, namespace, endpoint)
    now, cache = datetime.now(UTC), cache_dir()
    store_there = open_store(location, secrets_root())
    refuse_store(store_there, writes=False)
    swept = sweep(store_there, location.namespace, now, dry_run=dry_run)
    left = sweep_cache(cache, now, dry_run=dry_run)
    names = [item.name for item in swept.removed]
    folders = [item.path.relative_to(cache).as_posix() for item in left]
    cached = sum(item.bytes for item in left)
    if as_json:
        told = {"store": location.uri, "dryRun": dry_run, "removed": names, "bytes": swept.removed_bytes}
        sys.stdout.write(json.dumps({**told, "cache": {"removed": folders, "bytes": cached}}) + "\n")
        return
    console = terminal()
    for name in (*names, *folders):
        console.print(name, soft_wrap=True)
    verb = "would be removed" if dry_run else "removed"
    if isinstance(store_there, FolderStore) and not store_there.root.exists():
        console.print(f"There is no store {location.uri} yet.", style="yellow", soft_wrap=True)
    console.print(f"{len(names)} objects, {swept.removed_bytes / 1e6:.1f} MB {verb} from {location.uri}")
    console.print(f"{len(folders)} folders, {cached / 1e6:.1f} MB {verb} from {cache}")


def _location(manifest: Path | None, store: str | None, namespace: str | None, endpoint: str | None) -> StoreLocation:
    """The store that a manifest names, with its Secrets and region; else the one of the call, else the default."""
    if manifest is not None:
        text = read_manifest(manifest)
        return store_location(load_manifest(text), Wanted(text, None, store, namespace))
    uri = absolute_address(store, Path.cwd()) if store else str(cache_dir() / "store")
    return StoreLocation(uri=uri, endpoint=endpoint, namespace=namespace or "default")
