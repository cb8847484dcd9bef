"""Checkpoints of a training: a folder goes in under the train key and its step, the newest whole one comes out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.store.artifacts import checked_namespace
from tunesmith.store.folders import get_entries, in_parallel, put_folder
from tunesmith.store.manifests import Manifest, manifest_bytes, new_attempt, read_manifest
from tunesmith.store.protocol import NotFoundInStoreError, Store
from tunesmith_api.failures import FailureClass, StageFailure

# The one to go on from, and one before it in case that one is damaged (contract 3).
KEPT = 2

_KIND = "checkpoint"


class Checkpoints:
    """The checkpoints of one training, at ``checkpoints/<train key>/<step>/`` with ``manifest.json`` last."""

    def __init__(self, store: Store, namespace: str, train_key: str) -> None:
        self.store = store
        self._key = train_key
        self._at = f"{checked_namespace(namespace)}/checkpoints/{train_key}"

    def save(self, step: int, folder: Path, meta: Mapping[str, Any] | None = None, *, give: bool = False) -> Manifest:
        """Store what `folder` holds as the checkpoint of this step, then drop all but the newest two.

        Files are named by an attempt, so that a step that is saved again never mixes with what was there.
        """
        attempt = new_attempt()
        files = put_folder(self.store, folder, f"{self._at}/{step}/{attempt}", give=give)
        manifest = Manifest(kind=_KIND, key=self._key, attempt=attempt, files=files, meta=dict(meta or {}))
        self.store.put_bytes(manifest_bytes(manifest), self._manifest_name(step))
        whole = self.steps()
        for old in whole[KEPT:]:
            self._drop(old)
        return manifest

    def steps(self) -> list[int]:
        """The steps that have a whole checkpoint, newest first."""
        found = [item.name.split("/")[-2] for item in self.store.list(self._at) if _is_manifest(item.name, self._at)]
        return sorted((int(step) for step in found if step.isdecimal()), reverse=True)

    def fetch(self, step: int, folder: Path) -> Manifest:
        """Bring a checkpoint into `folder`, each file verified (`ArtifactCorrupt` if it is absent or damaged).

        Always a copy: whoever goes on from a checkpoint may write into the folder.
        """
        try:
            data = self.store.read_bytes(self._manifest_name(step))
        except NotFoundInStoreError as error:
            raise StageFailure(FailureClass.ARTIFACT_CORRUPT, f"there is no checkpoint of step {step}") from error
        manifest = read_manifest(data, self._manifest_name(step))
        get_entries(self.store, f"{self._at}/{step}/{manifest.attempt}", manifest.files, folder)
        return manifest

    def fetch_newest(self, folder: Path) -> tuple[int, Manifest] | None:
        """The newest checkpoint that is whole and undamaged, in ``<folder>/<step>``; None if there is none."""
        for step in self.steps():
            try:
                return step, self.fetch(step, folder / str(step))
            except StageFailure as error:
                if error.failure is not FailureClass.ARTIFACT_CORRUPT:
                    raise
        return None

    def drop_all(self) -> None:
        """Remove every checkpoint: the training's result is stored."""
        for step in self.steps():
            self.store.delete(self._manifest_name(step))
        in_parallel(self.store.delete, [item.name for item in self.store.list(self._at)])

    def _drop(self, step: int) -> None:
        # The manifest first: what is half removed is no checkpoint any more.
        self.store.delete(self._manifest_name(step))
        in_parallel(self.store.delete, [item.name for item in self.store.list(f"{self._at}/{step}")])

    def _manifest_name(self, step: int) -> str:
        return f"{self._at}/{step}/manifest.json"


def _is_manifest(name: str, at: str) -> bool:
    below = name.removeprefix(f"{at}/").split("/")
    return len(below) == 2 and below[1] == "manifest.json"  # noqa: PLR2004  # <step>/manifest.json
