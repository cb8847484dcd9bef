"""From this machine to one whole set of llama.cpp's tools, or to the reasons why there is none."""

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tunesmith.cache import cache_dir
from tunesmith.llama_cpp.pin import PIN
from tunesmith.llama_cpp.probe import read_build, shortcomings
from tunesmith.llama_cpp.tools import Build, Origin, Tools, missing_files, tools_in
from tunesmith_api.failures import FailureClass, StageFailure

# A set that does not say which build it is can still be used; provenance then says so.
UNKNOWN_BUILD = Build(0, "unknown")
# With this very interpreter: another one, outside of the environment, does not know the package.
BUILD_COMMAND = f"{shlex.quote(sys.executable)} -m tunesmith.llama_cpp"


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
    """All three places in the order in which they are asked, each looked at (for a person to read)."""
    return [_named(), _on_path(), _cached()]


def installed_tools() -> Tools | None:
    """The tools to use: of ``$TUNESMITH_LLAMA_CPP``, else of ``PATH``, else of our own build in the cache.

    Raises ToolsMissing where the named folder cannot be used: it is never silently passed over.
    """
    named = _named()
    if named.problems:
        raise StageFailure(
            FailureClass.TOOLS_MISSING,
            f"${Origin.ENVIRONMENT} names {named.folder}, which cannot be used: {'; '.join(named.problems)}",
            f"Unset {Origin.ENVIRONMENT}, or let it name a folder laid out as docs/installation.md says.",
        )
    return named.tools or _on_path().tools or _cached().tools


def find_tools() -> Tools:
    """As `installed_tools`, but raises ToolsMissing where there are none, too."""
    if tools := installed_tools():
        return tools
    on_path = _on_path()
    why = "".join(f" ({on_path.folder} is not used: {problem})" for problem in on_path.problems[:1])
    raise StageFailure(
        FailureClass.TOOLS_MISSING,
        f"llama.cpp's tools are neither on PATH{why} nor in {built_folder()}",
        f"Build them once: {BUILD_COMMAND} (about 10 minutes on 2 cores). Or name a folder that has "
        f"them in {Origin.ENVIRONMENT}.",
    )


def _named() -> Candidate:
    folder = os.environ.get(Origin.ENVIRONMENT.value)
    return _probed(Origin.ENVIRONMENT, Path(folder).expanduser().absolute() if folder else None)


def _on_path() -> Candidate:
    """The folder that holds the ``bin`` of the first llama-quantize on PATH, links followed."""
    found = shutil.which("llama-quantize")
    return _probed(Origin.PATH, Path(found).resolve().parent.parent if found else None)


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
