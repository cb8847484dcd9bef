"""File systems of a bounded size: in memory, gone at the end, and for those who are not root in a namespace."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_MOUNTED = 'mount -t tmpfs -o "size=$2" tmpfs "$1" && echo mounted && exec cat'


@dataclass(frozen=True)
class SmallDisk:
    """`folder` is where this process sees it; `_inside` and `_enter` are where and how it is mounted."""

    folder: Path
    _inside: Path
    _enter: tuple[str, ...] = ()

    def resize(self, size: int) -> None:
        """Give the file system `size` bytes, in whole pages."""
        options = f"remount,size={-(-size // 4096) * 4096}"
        subprocess.run([*self._enter, "mount", "-o", options, str(self._inside)], check=True)


@contextmanager
def mounted(at: Path, size: int) -> Iterator[SmallDisk]:
    """A file system of `size` bytes at the new folder `at`; the test is skipped where nobody may mount one."""
    at.mkdir()
    if _quiet("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)):
        try:
            yield SmallDisk(at, at)
        finally:
            # A server that was just killed may still hold it.
            subprocess.run(["umount", "--lazy", str(at)], check=True)
    elif _quiet("unshare", "--user", "--map-root-user", "--mount", "true") and shutil.which("nsenter"):
        with _in_a_namespace(at, size) as disk:
            yield disk
    else:
        pytest.skip("needs the right to mount a small file system, or user namespaces")


def _quiet(*command: str) -> bool:
    there = shutil.which(command[0]) is not None
    return there and subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def _in_a_namespace(at: Path, size: int) -> Iterator[SmallDisk]:
    """It lives as long as the process that mounted it, and is reached through that one's root."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNTED, "sh", str(at), str(size)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mounted\n"
        enter = ("nsenter", "--target", str(holder.pid), "--user", "--preserve-credentials", "--mount")
        yield SmallDisk(Path(f"/proc/{holder.pid}/root{at}"), at, enter)
