"""How much main memory this process may still take: what the kernel calls available, within the limit of its cgroup."""

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
# The kernel says "no limit" with a number near 2^63 in cgroup v1 (memory.limit_in_bytes); nothing real is as large.
_UNLIMITED_BYTES = 1 << 60


def memory_limit(cgroup: Path = _CGROUP) -> int | None:
    """The cgroup's memory limit in bytes; None where there is none."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _text(cgroup / name)
        if text is not None and text.isdigit() and int(text) < _UNLIMITED_BYTES:
            return int(text)
    return None


def available_memory(cgroup: Path = _CGROUP, proc: Path = _PROC) -> int:
    """Bytes of main memory that this process may still take."""
    available = _meminfo(proc, "MemAvailable") or _meminfo(proc, "MemTotal") or 0
    limit = memory_limit(cgroup)
    return available if limit is None else min(available, limit)


def _meminfo(proc: Path, name: str) -> int | None:
    for line in (_text(proc / "meminfo") or "").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
