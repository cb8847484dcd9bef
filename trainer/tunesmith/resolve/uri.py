"""A source's URI becomes its parts: scheme, place and path."""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.names import CLAIMS_VARIABLE
from tunesmith_api.sources import PORTABLE, told


class Scheme(StrEnum):
    """Where a source can be."""

    HF = "hf"
    S3 = "s3"
    HTTPS = "https"
    PVC = "pvc"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Source:
    """`place` is the hub repository, the bucket, the host or the claim; `path` what follows (a file's own path)."""

    scheme: Scheme
    place: str
    path: str
    uri: str

    @property
    def told(self) -> str:
        """The URI as it may be said and recorded."""
        return told(self.uri)


def portable(uri: str) -> bool:
    """Whether an address means the same on another machine: a path of this one says nothing there, and too much (P37).

    `uri` is one that has a scheme.
    """
    return uri.startswith(PORTABLE)


def parse_source(uri: str) -> Source:
    """The parts of a URI that the spec's pattern has let through; `SpecInvalid` otherwise."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in set(Scheme):
        raise StageFailure(
            FailureClass.SPEC_INVALID, f"{uri!r} is not a source: use hf://, s3://, https://, pvc:// or file://"
        )
    if scheme == Scheme.FILE:
        return Source(Scheme.FILE, "", rest, uri)
    if scheme == Scheme.HF:
        parts = rest.strip("/").split("/")
        if len(parts) != 2:  # noqa: PLR2004  # org and name
            raise StageFailure(FailureClass.SPEC_INVALID, f"{uri!r} is not a hub repository: use hf://org/name")
        return Source(Scheme.HF, "/".join(parts), "", uri)
    place, _, path = rest.partition("/")
    return Source(Scheme(scheme), place, path, uri)


def local_path(source: Source, base: Path) -> Path:
    """Where a ``file://`` source is: its path, taken from the manifest's folder `base` where it is relative."""
    path = Path(source.path).expanduser()
    return path if path.is_absolute() else base / path


def claim_path(source: Source) -> Path:
    """Where a ``pvc://`` source is mounted; `SpecInvalid` where its claim is not, or its path leads out of it."""
    claims = os.environ.get(CLAIMS_VARIABLE)
    root = None if claims is None else Path(claims) / source.place
    if root is None or not root.is_dir():
        message = f"{source.uri} names a claim of a cluster, which is not mounted here"
        raise StageFailure(FailureClass.SPEC_INVALID, message, "On one machine use a file:// source.")
    path = root / source.path
    if not path.resolve().is_relative_to(root.resolve()):
        raise StageFailure(FailureClass.SPEC_INVALID, f"{source.uri} leads out of its claim", "Name a path within it.")
    return path
