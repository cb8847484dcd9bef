"""What a job has published comes into a folder of this machine: verified, whole, and over nobody else's files."""

from pathlib import Path

from tunesmith.local.deliver import replacing
from tunesmith.local.job import held
from tunesmith.store import Artifacts
from tunesmith.store.published import Published, bring_published


def fetch_published(artifacts: Artifacts, published: Published, folder: Path) -> tuple[Path, ...]:
    """Bring the files into `folder`; their paths, sorted.

    What is there and right is left alone; what an earlier fetch or run delivered and is published no more goes. Killed
    at any moment, no file has its name before it is whole. Raises `ArtifactCorrupt`, `DiskFull`, and `SpecInvalid`
    where a file of somebody else, or another call, is in the way.
    """
    with held(folder), replacing(folder, {entry.path: entry.sha256 for entry in published.files}):
        bring_published(artifacts, published, folder)
    return tuple(sorted(folder / entry.path for entry in published.files))
