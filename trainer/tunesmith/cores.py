"""How many CPUs this process may use: those that it may run on, bounded by the quota of its cgroup."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """The number of threads that can compute at once, at least one.

    Programs that take all of the host's cores lose most of them to throttling under a quota.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(cgroup)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(cgroup: Path = _CGROUP) -> float | None:
    """How many CPUs the cgroup may use at once, e.g. 1.5; None where it is not limited.

    v2: ``cpu.max`` holds "quota period" or "max period"; v1: ``cpu/cpu.cfs_quota_us``, -1 for none
    (kernel documentation, admin-guide/cgroup-v2 and scheduler/sched-bwc).
    """
    words = _words(cgroup / "cpu.max")
    if not words:
        words = [*_words(cgroup / "cpu" / "cpu.cfs_quota_us"), *_words(cgroup / "cpu" / "cpu.cfs_period_us")]
    numbers = [int(word) for word in words[:2] if word.isdigit()]
    # "max" in v2, -1 in v1, and whatever else is no number: no limit that we know of.
    return numbers[0] / numbers[1] if len(numbers) == 2 and all(numbers) else None  # noqa: PLR2004  # quota and period


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
