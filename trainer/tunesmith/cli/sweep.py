"""``tunesmith gc``: remove from the store what nothing published or running refers to."""

import json
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from tunesmith.cache import cache_dir
from tunesmith.cli.run import Namespace, StoreUri
from tunesmith.secrets import secrets_root
from tunesmith.store import open_store
from tunesmith.store.gc import sweep
from tunesmith_api.stages import StoreLocation

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Endpoint = Annotated[str | None, typer.Option(help="The S3 service of an s3:// store.")]


def gc(
    store: StoreUri = None,
    namespace: Namespace = None,
    endpoint: Endpoint = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Sweep the store: what no published folder and no run of the last 30 days needs goes after 7 days.

    Example: `tunesmith gc --dry-run`
    """
    uri = store or str(cache_dir() / "store")
    opened = open_store(StoreLocation(uri=uri, endpoint=endpoint), secrets_root())
    swept = sweep(opened, namespace or "default", datetime.now(UTC), dry_run=dry_run)
    names = [item.name for item in swept.removed]
    if as_json:
        told = {"store": uri, "dryRun": dry_run, "removed": names, "bytes": swept.removed_bytes}
        sys.stdout.write(json.dumps(told) + "\n")
        return
    console = Console()
    for name in names:
        console.print(name, highlight=False, soft_wrap=True)
    verb = "would be removed" if dry_run else "removed"
    console.print(f"{len(names)} objects, {swept.removed_bytes / 1e6:.1f} MB {verb} from {uri}", highlight=False)
