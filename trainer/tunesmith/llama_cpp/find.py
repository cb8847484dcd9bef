"""From this machine to one whole set of llama.cpp's tools, or to the reasons why there is none."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tunesmith.cache import cache_dir
from tunesmith.llama_cpp.pin import PIN
from tunesmith.llama_cpp.probe import read_build, shortcomings
from tunesmith.llama_cpp.tools import Build, Origin, Tools, missing_files, tools_in
from tunesmith_api.failures import FailureClass, StageFailure

# A set that does not say which build it is can still be used; provenance then says so.
UNKNOWN_BUILD = Build(0, "unknown")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place that was looked at: the tools, or what is wrong with it."""

    origin: Origin
    folder: Path | None
    tools: Tools | None
    problems: tuple[str, ...]


def built_folder() -> Path:
    """Where `build_tools` puts what it makes of the pinned source, and where `find_tools` looks last."""
    return cache_dir() / "llama.cpp" / PIN.build_id


def candidates() -> list[Candidate]:
    """All three places in the order in which they are asked, each looked at."""
    named = os.environ.get(Origin.ENVIRONMENT.value)
    first = _probed(Origin.ENVIRONMENT, Path(named).expanduser() if named else None)
    return [first, _probed(Origin.PATH, _folder_on_path()), _cached()]


def find_tools() -> Tools:
    """The tools to use: of ``$TUNESMITH_LLAMA_CPP``, else of ``PATH``, else of our own build in the cache.

    Raises ToolsMissing where a named folder cannot be used (it is never silently passed over), and where nothing
    was found at all.
    """
    named = os.environ.get(Origin.ENVIRONMENT.value)
    if named:
        return _tools_of_named(_probed(Origin.ENVIRONMENT, Path(named).expanduser()))
    if (on_path := _probed(Origin.PATH, _folder_on_path())).tools:
        return on_path.tools
    if (cached := _cached()).tools:
        return cached.tools
    why = "".join(f"; {on_path.folder} is not used, since {problem}" for problem in on_path.problems[:1])
    raise StageFailure(
        FailureClass.TOOLS_MISSING,
        f"llama.cpp's tools are neither on PATH nor in {built_folder()}{why}",
        "Run 'tunesmith doctor --fix': it builds them once into the cache (about 10 minutes on 2 cores). Or name "
        f"a folder that has them in ${Origin.ENVIRONMENT}.",
    )


def _tools_of_named(candidate: Candidate) -> Tools:
    if candidate.tools is None:
        raise StageFailure(
            FailureClass.TOOLS_MISSING,
            f"${Origin.ENVIRONMENT} names {candidate.folder}, which cannot be used: {'; '.join(candidate.problems)}",
            f"Unset {Origin.ENVIRONMENT}, or let it name a folder laid out as docs/installation.md says.",
        )
    return candidate.tools


def _folder_on_path() -> Path | None:
    """The folder that holds the ``bin`` of the first llama-quantize on PATH, links followed."""
    found = shutil.which("llama-quantize")
    return Path(found).resolve().parent.parent if found else None


def _probed(origin: Origin, folder: Path | None) -> Candidate:
    if folder is None:
        return Candidate(origin, None, None, ())
    if problems := shortcomings(folder):
        return Candidate(origin, folder, None, tuple(problems))
    return Candidate(origin, folder, tools_in(folder, origin, read_build(folder) or UNKNOWN_BUILD), ())


def _cached() -> Candidate:
    """Our own build, which was probed before it was put in its place: only looked at, not asked again."""
    folder = built_folder()
    if not folder.is_dir():
        return Candidate(Origin.CACHE, folder, None, ("it has not been built yet",))
    if missing := missing_files(folder):
        return Candidate(Origin.CACHE, folder, None, tuple(f"{part} is not there" for part in missing))
    return Candidate(Origin.CACHE, folder, tools_in(folder, Origin.CACHE, PIN.build), ())
