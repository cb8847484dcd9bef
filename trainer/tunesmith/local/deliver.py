"""A publication becomes the user's folder; files of an earlier one that this one has no more are taken away again."""

import json
from pathlib import Path

from tunesmith.local.record import FOLDER
from tunesmith.resolve.digests import file_digest
from tunesmith.store import Artifacts
from tunesmith.store.publication import deliver, published_files

_DELIVERED = "delivered.json"


def deliver_anew(artifacts: Artifacts, key: str, folder: Path) -> tuple[Path, ...]:
    """Put all files of a publication into `folder` and return their paths, sorted.

    What an earlier run delivered and this publication no longer has (a quantization that was removed, or is withheld
    now) is removed, but only if it is still the very file that was delivered.
    """
    listing = folder / FOLDER / _DELIVERED
    before: dict[str, str] = json.loads(listing.read_text()) if listing.exists() else {}
    now = {path: source.manifest.entry(source.path).sha256 for path, source in published_files(artifacts, key).items()}
    listing.parent.mkdir(parents=True, exist_ok=True)
    # Both listings until all is done: killed in between, the next run still knows what is ours.
    listing.write_text(json.dumps(before | now, indent=1))
    delivered = deliver(artifacts, key, folder)
    for path in before.keys() - now.keys():
        former = folder / path
        if former.is_file() and file_digest(former) == f"sha256:{before[path]}":
            former.unlink()
    listing.write_text(json.dumps(now, indent=1))
    return delivered
