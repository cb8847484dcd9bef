"""From a folder of llama.cpp tools to what it lacks for our use, by asking the tools themselves.

Not the version but the options decide: distributions number their builds as they like, and options come and go.
"""

import re
import subprocess
from pathlib import Path

from tunesmith.llama_cpp.tools import EXECUTABLES, Build, missing_files

# The long options that the stages and 'tunesmith chat' pass to each tool, no others: one that is never passed would
# refuse a build that can do all we need (tests/unit/test_llama_cpp_options.py). Short ones (-m, -c) every build has.
NEEDED_OPTIONS: dict[str, tuple[str, ...]] = {
    "quantize": ("--imatrix", "--dry-run"),
    "imatrix": ("--parse-special", "--output-format", "--in-file", "--chunk", "--chunks"),
    "perplexity": ("--kl-divergence", "--kl-divergence-base", "--chunks"),
    "server": ("--host", "--port", "--ctx-size", "--parallel", "--jinja", "--special", "--chat-template-file"),
}

# Longest wait for --help, which takes 10 to 50 ms; a cold network file system may need some seconds to load 15 MB.
ANSWER_SECONDS = 60

# "version: 0.5.0-dev (build 11312, commit 0c1e570)" since llama.cpp has releases, "version: 4567 (0c1e570)" before.
_VERSION = re.compile(r"^version: (?:\S+ \(build (\d+), commit (\w+)\)|(\d+) \((\w+)\))", re.MULTILINE)


def absent_options(help_text: str, needed: tuple[str, ...]) -> list[str]:
    """Which of `needed` the help text does not name as a whole word (``--chunk`` is not named by ``--chunks``)."""
    named = set(re.findall(r"--[a-z][a-z0-9-]*", help_text))
    return [option for option in needed if option not in named]


def parse_build(version_text: str) -> Build | None:
    """Number and commit out of what ``llama-server --version`` prints; None where it names none."""
    found = _VERSION.search(version_text)
    if found is None:
        return None
    return Build(int(found[1] or found[3]), found[2] or found[4])


def shortcomings(folder: Path) -> list[str]:
    """What `folder` lacks to be used by us: sentences, empty when it has everything."""
    if not folder.is_dir():
        return [f"there is no folder {folder}"]
    if missing := missing_files(folder):
        return [f"{part} is not there" for part in missing]
    found = []
    for tool, needed in NEEDED_OPTIONS.items():
        # llama-quantize --help ends with 1: the text is what counts.
        answer = _answer(folder / EXECUTABLES[tool], "--help")
        if answer is None:
            found.append(f"{EXECUTABLES[tool]} does not run")
        elif absent := absent_options(answer, needed):
            found.append(f"{EXECUTABLES[tool]} has no {', '.join(absent)}")
    return found


def read_build(folder: Path) -> Build | None:
    """Number and commit of the build in `folder`; None where its server does not say."""
    return parse_build(_answer(folder / EXECUTABLES["server"], "--version") or "")


def _answer(tool: Path, option: str) -> str | None:
    """What the tool prints on both streams, or None if it cannot be started or does not end."""
    try:
        run = subprocess.run(
            [str(tool), option],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # A negative status is a signal: a missing processor instruction, a library that does not load ends with 127.
    loads = run.returncode >= 0 and run.returncode != 127  # noqa: PLR2004
    return run.stdout.decode(errors="replace") if loads else None
