"""What this machine's processor can do, as the kernel names it in /proc/cpuinfo."""

import platform
from collections.abc import Set as AbstractSet
from pathlib import Path

_PROC = Path("/proc")
# Number formats that multiply in hardware; without one, torch emulates bf16 and is many times slower (P77).
_NATIVE_BF16_X86 = frozenset({"amx_bf16", "avx512_bf16"})
_NATIVE_BF16_ARM = frozenset({"bf16"})


def cpu_flags(proc: Path = _PROC) -> frozenset[str]:
    """The CPU's features as /proc/cpuinfo names them ("flags" on x86, "Features" on Arm); empty where unreadable."""
    try:
        text = (proc / "cpuinfo").read_text()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return frozenset(value.lower().split())
    return frozenset()


def native_bf16(flags: AbstractSet[str], machine: str | None = None) -> bool:
    """Whether this CPU multiplies bf16 in hardware, from its flags."""
    arm = (machine or platform.machine()).lower() in ("aarch64", "arm64")
    return bool(flags & (_NATIVE_BF16_ARM if arm else _NATIVE_BF16_X86))
