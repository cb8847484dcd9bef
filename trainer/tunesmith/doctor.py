"""From this machine to a report of what it has for Tunesmith and what it lacks; nothing is changed or fetched."""

import platform
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

from tunesmith.cache import cache_dir
from tunesmith.cores import usable_cores
from tunesmith.extras import install_command
from tunesmith.gpu import nvidia_smi
from tunesmith.llama_cpp.build import absent_prerequisites
from tunesmith.llama_cpp.find import BUILD_COMMAND, Candidate, candidates
from tunesmith.llama_cpp.tools import Origin
from tunesmith.processor import cpu_flags

GIB = 1 << 30

# Distributions to look at: the command line itself, then what each extra brings and what needs it.
EXTRAS = {
    "": "the command line",
    "gguf": "imatrix, baseline, evaluate, quantize and publish",
    "trainer": "prepare, train and convert",
    "cluster": "submit, status, logs, fetch, cancel and retry",
}
# Without it whole jobs run here all the same.
_SPARED = "cluster"

# The instruction sets that llama.cpp's processor variants are told apart by (ggml/src/CMakeLists.txt), as Linux names
# them on x86-64 and on ARM.
X86_FLAGS = "sse4_2 avx f16c fma bmi2 avx2 avx_vnni avx512f avx512_vbmi avx512_vnni avx512_bf16 amx_tile amx_int8"
ARM_FLAGS = "asimd asimddp asimdhp i8mm sve sve2 bf16"
CPU_FLAGS = frozenset(f"{X86_FLAGS} {ARM_FLAGS}".split())

# A demo of SmolLM2 leaves about 3 GiB behind, an environment with torch is 5.5 GiB: below this a run will not end well.
LITTLE_DISK = 10 * GIB


class Verdict(StrEnum):
    """What a finding means for running a job here."""

    OK = "Ok"
    NOTE = "Note"
    MISSING = "Missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `detail` for people, `facts` for programs, `hint` where something can be done."""

    subject: str
    verdict: Verdict
    detail: str
    hint: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found, in the order in which to read it."""

    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Whether whole jobs can run on this machine."""
        return all(finding.verdict is not Verdict.MISSING for finding in self.findings)

    def to_json_dict(self) -> dict[str, Any]:
        """The report as JSON types: ``{"ready": bool, "findings": [{subject, verdict, detail, hint, facts}]}``."""
        return {"ready": self.ready, "findings": [asdict(finding) for finding in self.findings]}


def examine() -> Report:
    """Look at this machine."""
    return Report(
        (
            _python(),
            *(package_finding(extra, _requirements(extra), _installed) for extra in EXTRAS),
            tools_finding(candidates(), absent_prerequisites()),
            _processor(),
            _memory(),
            _disk(cache_dir()),
            gpu_finding(nvidia_smi()),
        )
    )


def _python() -> Finding:
    version = platform.python_version()
    return Finding("Python", Verdict.OK, f"{version} on {platform.platform()}", facts={"version": version})


def _requirements(extra: str) -> list[Requirement]:
    """What the installed distribution asks for with `extra` and without any, but for itself."""
    stated = [Requirement(line) for line in metadata.requires("tunesmith") or ()]
    return [requirement for requirement in stated if requirement.name != "tunesmith" and _asked_by(requirement, extra)]


def _asked_by(requirement: Requirement, extra: str) -> bool:
    if requirement.marker is None:
        return extra == ""
    without, with_it = (requirement.marker.evaluate({"extra": name}) for name in ("", extra))
    return with_it and (extra == "" or not without)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def package_finding(extra: str, requirements: Iterable[Requirement], installed: Callable[[str], str | None]) -> Finding:
    """Whether what an extra asks for is there in the versions it asks for; `installed(name)` is a version or None."""
    asked = [_bare(requirement) for requirement in requirements]
    versions = {requirement.name: installed(requirement.name) for requirement in asked}
    wrong = [
        f"{requirement} ({versions[requirement.name] or 'absent'})"
        for requirement in asked
        if not _satisfied(requirement, versions[requirement.name])
    ]
    subject = f"packages for {EXTRAS[extra]}"
    if not wrong:
        number = f"{len(versions)} package" if len(versions) == 1 else f"{len(versions)} packages"
        return Finding(subject, Verdict.OK, f"{number} as asked for", facts=versions)
    verdict = Verdict.NOTE if extra == _SPARED else Verdict.MISSING
    return Finding(subject, verdict, f"asked for: {', '.join(wrong)}", install_command(extra), versions)


def _bare(requirement: Requirement) -> Requirement:
    """The requirement without the extra that brought it, to be shown to a person."""
    bare = Requirement(str(requirement))
    bare.marker = None
    return bare


def _satisfied(requirement: Requirement, version: str | None) -> bool:
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def tools_finding(looked_at: list[Candidate], absent: list[str]) -> Finding:
    """Which of llama.cpp's tools will be used, or what keeps them from being there and being built."""
    named = next(candidate for candidate in looked_at if candidate.origin is Origin.ENVIRONMENT)
    problems = {str(c.origin): list(c.problems) for c in looked_at if c.problems}
    if named.problems:
        why = "; ".join(named.problems)
        absent_folder = named.folder is not None and not named.folder.is_dir()
        detail = f"{Origin.ENVIRONMENT}: {why}" if absent_folder else f"{named.folder} cannot be used: {why}"
        return Finding("llama.cpp", Verdict.MISSING, detail, f"Unset {Origin.ENVIRONMENT}.", {"problems": problems})
    tools = next((candidate.tools for candidate in looked_at if candidate.tools), None)
    if tools:
        facts = {"build": str(tools.build), "folder": str(tools.folder), "origin": str(tools.origin)}
        detail = f"{tools.build} ({tools.origin})"
        return Finding("llama.cpp", Verdict.OK, detail, facts={**facts, "problems": problems})
    build = f"{BUILD_COMMAND} builds them once (about 10 minutes on 2 cores)"
    hint = f"apt-get install --yes {' '.join(absent)}; then {build}" if absent else build
    detail = "no tools: " + "; ".join(f"{origin}: {', '.join(found)}" for origin, found in problems.items())
    return Finding("llama.cpp", Verdict.MISSING, detail, hint, {"problems": problems})


def _processor() -> Finding:
    info = Path("/proc/cpuinfo")
    model, flags = model_name(info.read_text() if info.exists() else ""), sorted(CPU_FLAGS & cpu_flags())
    cores = usable_cores()
    facts = {"cores": cores, "model": model, "flags": flags}
    return Finding("processor", Verdict.OK, f"{cores} cores, {model}, {' '.join(flags)}", facts=facts)


def model_name(text: str) -> str:
    """The first processor's name out of ``/proc/cpuinfo``, the machine's kind where it says none (Arm)."""
    named = re.search(r"^model name\s*:\s*(.+?)\s*$", text, re.MULTILINE)
    return named[1] if named else platform.machine()


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    facts = {"totalBytes": memory.total, "availableBytes": memory.available}
    detail = f"{memory.total / GIB:.1f} GiB, {memory.available / GIB:.1f} GiB available"
    return Finding("memory", Verdict.OK, detail, facts=facts)


def _disk(folder: Path) -> Finding:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return disk_finding(folder, shutil.disk_usage(there).free)


def disk_finding(folder: Path, free: int) -> Finding:
    """Whether `free` bytes are enough for `folder` to grow."""
    facts = {"folder": str(folder), "freeBytes": free}
    detail = f"{free / GIB:.1f} GiB free"
    if free >= LITTLE_DISK:
        return Finding("disk", Verdict.OK, detail, facts=facts)
    hint = "Free some, or put TUNESMITH_CACHE on another disk; 'tunesmith plan' says how much a job needs."
    return Finding("disk", Verdict.NOTE, detail, hint, facts)


def gpu_finding(answer: str | None) -> Finding:
    """The GPUs in nvidia-smi's answer (name, MiB, driver version per line); None means that there is no driver."""
    rows = [[cell.strip() for cell in line.split(",")] for line in (answer or "").splitlines() if line.strip()]
    if not rows:
        return Finding("GPU", Verdict.NOTE, "none (no NVIDIA driver answers): training runs on the processor")
    # "[N/A]" where GPU and processor share their memory.
    gpus = [
        {"product": name, "memoryMiB": int(mib) if mib.isdigit() else None, "driver": driver}
        for name, mib, driver in rows
    ]
    detail = ", ".join(f"{name} ({mib} MiB)" for name, mib, _ in rows)
    return Finding("GPU", Verdict.OK, f"{detail}, driver {rows[0][2]}", facts={"gpus": gpus})
