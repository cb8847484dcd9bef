"""A publication names files of other artifacts; here it becomes one readable folder, in the store or a user's."""

from collections.abc import Mapping
from pathlib import Path

from tunesmith.store.artifacts import Artifacts
from tunesmith.store.published import Source, export, publish
from tunesmith_api.stages import Kind, StageRequest


def make_known(artifacts: Artifacts, request: StageRequest) -> None:
    """Copy the publication that `request` asked for to ``published/<job>/`` and point latest.json there."""
    key = request.outputs[0].key
    publish(artifacts, request.job.name, key, published_files(artifacts, key))


def deliver(artifacts: Artifacts, key: str, folder: Path) -> tuple[Path, ...]:
    """Put all files of a publication into a user's folder; returns their paths, sorted."""
    files = published_files(artifacts, key)
    export(artifacts, files, folder)
    return tuple(sorted(folder / path for path in files))


def published_files(artifacts: Artifacts, key: str) -> Mapping[str, Source]:
    """The path in the published folder of every file, and the artifact that holds it (`ArtifactCorrupt` if absent)."""
    publication = artifacts.expect(Kind.PUBLICATION, key)
    files = {entry.path: Source(publication, entry.path) for entry in publication.files}
    for path, place in publication.meta.get("files", {}).items():
        files[path] = Source(artifacts.expect(place["kind"], place["key"]), place["path"])
    return files
