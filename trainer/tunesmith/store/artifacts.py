"""Artifacts: a folder of files goes in under a kind and a key, whole or not at all, and comes out verified."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.store.folders import get_entries, in_parallel, put_folder
from tunesmith.store.manifests import InputReference, Manifest, manifest_bytes, new_attempt, read_manifest
from tunesmith.store.protocol import FileEntry, NotFoundInStoreError, Store
from tunesmith.store.verified import VerifiedFiles
from tunesmith_api.failures import FailureClass, StageFailure

# A DNS label (RFC 1123), as Kubernetes asks of a namespace.
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Artifacts:
    """The artifacts of one namespace of a store."""

    def __init__(self, store: Store, namespace: str) -> None:
        self.store = store
        self.namespace = checked_namespace(namespace)
        self._verified: dict[Path, VerifiedFiles] = {}

    def find(self, kind: str, key: str) -> Manifest | None:
        """The manifest of an artifact, None if there is none; `ArtifactCorrupt` if it cannot be read."""
        name = self._manifest_name(kind, key)
        try:
            data = self.store.read_bytes(name)
        except NotFoundInStoreError:
            return None
        return self._parsed(kind, key, data)

    def holds(self, kind: str, key: str) -> bool:
        """Whether there is such an artifact; one whose manifest is damaged is as good as none."""
        try:
            return self.find(kind, key) is not None
        except StageFailure as error:
            if error.failure is FailureClass.ARTIFACT_CORRUPT:
                return False
            raise

    def expect(self, kind: str, key: str) -> Manifest:
        """As `find`, but an absent artifact is `ArtifactCorrupt` too: whoever asks needs it."""
        manifest = self.find(kind, key)
        if manifest is None:
            raise _corrupt(kind, key, f"is not in the store {self.store.uri}")
        return manifest

    def open(self, kind: str, key: str, scratch: Path, only: Collection[str] | None = None) -> Path:
        """A local folder that holds the artifact's files (or `only` those of them), verified; never write into it.

        In place where the store is a folder, else fetched below `scratch` (files of an earlier call are used again).
        `ArtifactCorrupt` names the artifact if it or one of its files is absent or different.
        """
        manifest = self.expect(kind, key)
        entries = [entry for entry in manifest.files if only is None or entry.path in only]
        at = self.attempt_name(manifest)
        in_place = self.store.local_path(at)
        try:
            if in_place is not None:
                self._check(self._root(), in_place, entries)
                return in_place
            folder = scratch / f"{kind}-{key[:16]}-{manifest.attempt[:8]}"
            missing = [entry for entry in entries if not self._index(scratch).holds(folder / entry.path, entry)]
            get_entries(self.store, at, missing, folder)
            for entry in missing:
                self._index(scratch).add(folder / entry.path, entry)
        except StageFailure as error:
            if error.failure is FailureClass.ARTIFACT_CORRUPT:
                raise _corrupt(kind, key, f"is damaged: {error.message}") from error
            raise
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def commit(  # noqa: PLR0913  # what a commit records is these, and each is named at the call
        self,
        kind: str,
        key: str,
        folder: Path,
        *,
        inputs: Sequence[Manifest | InputReference] = (),
        made: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        replace: bool = False,
        give: bool = False,
    ) -> Manifest:
        """Store a folder as the artifact; the manifest that holds from now on, which may be an earlier writer's.

        With `replace` an artifact that is there is superseded (what it was stays for gc). With `give` the caller
        promises never to write to these files again, so that a folder store may link instead of copying.
        """
        if not replace and (earlier := self.find(kind, key)) is not None:
            return earlier
        attempt = new_attempt()
        files = put_folder(self.store, folder, self._name("attempts", attempt), give=give)
        references = tuple(item.reference() if isinstance(item, Manifest) else item for item in inputs)
        manifest = Manifest(
            kind=kind,
            key=key,
            attempt=attempt,
            files=files,
            inputs=references,
            made=dict(made or {}),
            meta=dict(meta or {}),
        )
        self._remember(manifest)
        self.store.put_bytes(manifest_bytes(manifest), self._manifest_name(kind, key), if_absent=not replace)
        stored = self.find(kind, key)
        if stored is None:
            raise StageFailure(
                FailureClass.STORE_UNAVAILABLE,
                f"{self.store.uri} took the manifest of {kind} {key[:12]} and does not give it back",
            )
        return stored

    def attempt_name(self, manifest: Manifest, path: str | None = None) -> str:
        """The object name of an artifact's folder, or of one of its files."""
        return self._name("attempts", manifest.attempt, *([path] if path else []))

    def _name(self, *parts: str) -> str:
        return "/".join((self.namespace, *parts))

    def _manifest_name(self, kind: str, key: str) -> str:
        return self._name("artifacts", kind, key, "manifest.json")

    def _parsed(self, kind: str, key: str, data: bytes) -> Manifest:
        try:
            manifest = read_manifest(data, self._manifest_name(kind, key))
        except StageFailure as error:
            raise _corrupt(kind, key, "has a manifest that cannot be read") from error
        if (manifest.kind, manifest.key) != (kind, key):
            raise _corrupt(kind, key, f"has the manifest of {manifest.kind} {manifest.key[:12]}")
        return manifest

    def _root(self) -> Path:
        root = self.store.local_path(self.namespace)
        assert root is not None  # noqa: S101  # asked only of a store that reads in place
        return root

    def _index(self, base: Path) -> VerifiedFiles:
        return self._verified.setdefault(base, VerifiedFiles(base))

    def _check(self, base: Path, folder: Path, entries: Sequence[FileEntry]) -> None:
        def check(entry: FileEntry) -> None:
            try:
                self._index(base).check(folder / entry.path, entry)
            except FileNotFoundError as error:
                raise StageFailure(FailureClass.ARTIFACT_CORRUPT, f"{folder / entry.path} is missing") from error

        in_parallel(check, entries)

    def _remember(self, manifest: Manifest) -> None:
        """What was hashed on its way into a folder store need not be hashed again."""
        folder = self.store.local_path(self.attempt_name(manifest))
        if folder is not None:
            for entry in manifest.files:
                self._index(self._root()).add(folder / entry.path, entry)


def checked_namespace(namespace: str) -> str:
    """The namespace if it is one (`SpecInvalid` otherwise)."""
    if not _NAMESPACE.fullmatch(namespace):
        raise StageFailure(
            FailureClass.SPEC_INVALID, f"the namespace {namespace[:80]!r} is not a DNS label", "Use a-z, 0-9 and '-'."
        )
    return namespace


def _corrupt(kind: str, key: str, what: str) -> StageFailure:
    return StageFailure(FailureClass.ARTIFACT_CORRUPT, f"the {kind} artifact {key[:12]} {what}", artifact=(kind, key))
