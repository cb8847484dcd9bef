"""The published artifact becomes the user's folder: copies of its files, verified; no other file is touched."""

from pathlib import Path

from tunesmith.resolve.digests import file_digest
from tunesmith.store import Artifacts
from tunesmith.store.local_files import put_copy
from tunesmith_api.stages import ArtifactReference


def deliver(artifacts: Artifacts, publication: ArtifactReference, output: Path, scratch: Path) -> tuple[Path, ...]:
    """Bring the publication's files into `output`; what is there unchanged stays. Returns their paths, sorted.

    Files of an earlier publication that this one no longer has (a quantization that was removed) are removed, if
    they are still what was delivered.
    """
    manifest = artifacts.expect(publication.kind, publication.key)
    folder = artifacts.open(publication.kind, publication.key, scratch)
    delivered = []
    for entry in manifest.files:
        target = output / entry.path
        if not (target.is_file() and target.stat().st_size == entry.size and _same(target, entry.sha256)):
            target.parent.mkdir(parents=True, exist_ok=True)
            put_copy(folder / entry.path, target, entry)
        delivered.append(target)
    _remove_former(output, {entry.path: entry.sha256 for entry in manifest.files})
    return tuple(sorted(delivered))


def _same(path: Path, sha256: str) -> bool:
    return file_digest(path) == f"sha256:{sha256}"


def _remove_former(output: Path, now: dict[str, str]) -> None:
    listing = output / ".tunesmith" / "delivered"
    before = dict(line.split("  ", 1)[::-1] for line in listing.read_text().splitlines()) if listing.exists() else {}
    for path, sha256 in before.items():
        if path not in now and (output / path).is_file() and _same(output / path, sha256):
            (output / path).unlink()
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text("".join(f"{sha256}  {path}\n" for path, sha256 in sorted(now.items())))
