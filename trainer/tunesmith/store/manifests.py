"""What says that an artifact is whole: names of files with digests, what it was made of and by what."""

import hashlib
import json
import uuid
from typing import Any

from pydantic import Field

from tunesmith.store.protocol import FileEntry, check_name
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.schema import Recorded

MANIFEST_VERSION = 1


class InputReference(Recorded):
    """An artifact that another was made of: its kind, its key and the sha256 of its manifest's bytes."""

    kind: str
    key: str
    manifest_digest: str


class Manifest(Recorded):
    """The commit of an artifact: it exists exactly if this was written.

    `made` says by what (versions, image, host, time), `meta` what the stage adds (a small dict of its own);
    `digest` is the sha256 of the manifest as stored, and is not part of it.
    """

    manifest_version: int = MANIFEST_VERSION
    kind: str
    key: str
    attempt: str
    files: tuple[FileEntry, ...]
    inputs: tuple[InputReference, ...] = ()
    made: dict[str, Any] = Field(default_factory=dict)
    meta: dict[str, Any] = Field(default_factory=dict)
    digest: str = Field(default="", exclude=True)

    def reference(self) -> InputReference:
        """How an artifact that is made of this one names it."""
        return InputReference(kind=self.kind, key=self.key, manifest_digest=self.digest)

    def entry(self, path: str) -> FileEntry:
        """The entry of one file; `ArtifactCorrupt` if the artifact has no such file."""
        for entry in self.files:
            if entry.path == path:
                return entry
        raise StageFailure(
            FailureClass.ARTIFACT_CORRUPT,
            f"the {self.kind} artifact {self.key[:12]} has no file {path}",
            artifact=(self.kind, self.key),
        )

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)


def new_attempt() -> str:
    """A name that no other attempt has."""
    return str(uuid.uuid4())


def manifest_bytes(manifest: Manifest) -> bytes:
    """The one form in which a manifest is stored; its ``checksum`` is that of everything else in it."""
    content = manifest.to_json_dict()
    return json.dumps(content | {"checksum": _checksum(content)}, sort_keys=True, indent=1).encode() + b"\n"


def read_manifest(data: bytes, where: str) -> Manifest:
    """The manifest of stored bytes with its digest; `ArtifactCorrupt` (without the artifact) if they are none."""
    try:
        content = dict(json.loads(data))
        if content.pop("checksum", None) != _checksum(content):
            raise ValueError("the checksum differs")  # noqa: TRY301  # one way out for all that is no manifest
        manifest = Manifest.model_validate(content)
        for entry in manifest.files:
            check_name(entry.path)
        check_name(manifest.attempt)
    except (ValueError, TypeError, StageFailure) as error:
        raise StageFailure(FailureClass.ARTIFACT_CORRUPT, f"{where} is not a manifest") from error
    return manifest.model_copy(update={"digest": hashlib.sha256(data).hexdigest()})


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
