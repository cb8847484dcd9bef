"""From the pinned source to the tools in the cache: configured, compiled, laid out, probed, and renamed into place."""

import fcntl
import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.llama_cpp.find import built_folder, installed_tools
from tunesmith.llama_cpp.pin import PIN
from tunesmith.llama_cpp.probe import read_build, shortcomings
from tunesmith.llama_cpp.source import fetch_source
from tunesmith.llama_cpp.tools import EXECUTABLES, SCRIPTS, Origin, Tools, missing_files, tools_in
from tunesmith_api.failures import FailureClass, StageFailure

Progress = Callable[[float, str], None]

# Included before every file; each says which fault it cures.
AMX_TILE_CONFIG = Path(__file__).with_name("amx_tile_config.h")
FLUSH_LOG_AT_EXIT = Path(__file__).with_name("flush_log_at_exit.h")

# Every processor variant is built and chosen at run time: the cache, an image, a shared home folder meet other
# processors than the one that built them, and a native build dies there of an illegal instruction. The run path
# makes the folder relocatable. Neither a web page nor TLS is needed of a server that listens on loopback, and a
# build must fetch nothing that is not pinned.
CMAKE_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "CMAKE_CXX_FLAGS": f"-include {AMX_TILE_CONFIG} -include {FLUSH_LOG_AT_EXIT}",
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
    "CMAKE_INSTALL_RPATH": "$ORIGIN",
    "BUILD_SHARED_LIBS": "ON",
    "GGML_BACKEND_DL": "ON",
    "GGML_CPU_ALL_VARIANTS": "ON",
    "GGML_NATIVE": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_BUILD_NUMBER": str(PIN.build.number),
    "LLAMA_BUILD_COMMIT": PIN.build.commit,
}

# Shares of the whole time, as measured: fetching 10 s, configuring 5 s, compiling 8 to 14 min on 2 cores.
FETCHED, CONFIGURED, COMPILED = 0.02, 0.03, 0.99

_NINJA_STEP = re.compile(r"^\[(\d+)/(\d+)\]")


def provide_tools(progress: Progress) -> Tools:
    """The tools that `find_tools` finds, else those that `build_tools` builds; raises what either raises."""
    return installed_tools() or build_tools(progress)


def build_tools(progress: Progress) -> Tools:
    """The tools of the pinned source, built once into the cache; `progress` gets a fraction 0..1 and a word on it.

    One builder at a time: a second waits for the first and takes what it made. A build that was interrupted goes on
    from the objects that it has. Raises ToolsMissing where compiler, cmake or ninja are absent or the build fails,
    SourceUnavailable and ArtifactCorrupt as `fetch_source` does.
    """
    target = built_folder()
    with _alone(target.parent / "build.lock", progress):
        if not target.is_dir() or missing_files(target):
            _check_prerequisites()
            _build(target, progress)
    progress(1.0, "llama.cpp's tools are ready")
    return tools_in(target, Origin.CACHE, PIN.build)


@contextmanager
def _alone(lock: Path, progress: Progress) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(0.0, "waiting for another process that builds llama.cpp's tools")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def absent_prerequisites() -> list[str]:
    """What a build needs and this machine lacks, by the names of the Debian packages that have it."""
    absent = {package for package, command in (("cmake", "cmake"), ("ninja-build", "ninja")) if not _has(command)}
    if not _has(os.environ.get("CXX", "c++")) or not _has(os.environ.get("CC", "cc")):
        absent.add("g++")
    return sorted(absent)


def _has(command: str) -> bool:
    return shutil.which(command.split(maxsplit=1)[0]) is not None


def _check_prerequisites() -> None:
    if absent := absent_prerequisites():
        packages = " ".join(absent)
        raise StageFailure(
            FailureClass.TOOLS_MISSING,
            f"llama.cpp cannot be built without {packages}",
            f"On Debian or Ubuntu: apt-get install --yes {packages}",
        )


def _build(target: Path, progress: Progress) -> None:
    progress(0.0, f"fetching llama.cpp's source ({PIN.requirement}, 77 MB)")
    source = fetch_source()
    objects = target.parent / f"build-{PIN.build_id}"
    progress(FETCHED, f"configuring llama.cpp {PIN.build}")
    _configure(source / PIN.tree, objects)
    _compile(objects, progress)
    progress(COMPILED, "probing the tools")
    draft = target.parent / f"draft-{PIN.build_id}"
    _lay_out(source, objects, draft)
    _accept(draft)
    # What lay there lacked files (a full disk, a hand): what is whole takes its place.
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    shutil.rmtree(objects)


def _configure(tree: Path, objects: Path) -> None:
    options = [f"-D{name}={value}" for name, value in CMAKE_OPTIONS.items()]
    run = subprocess.run(
        ["cmake", "-S", str(tree), "-B", str(objects), "-G", "Ninja", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if run.returncode:
        raise _failed("cmake", run.stdout.splitlines())


def ninja_fraction(line: str) -> float | None:
    """The share of the steps that a line of ninja's output (``[12/471] Building ...``) says are done."""
    step = _NINJA_STEP.match(line)
    return int(step[1]) / int(step[2]) if step else None


def _compile(objects: Path, progress: Progress) -> None:
    targets = [tool.name for tool in EXECUTABLES.values()]
    # The compiler warns 15 MB about the vector types of its own headers; only a failure's last lines are of use.
    last: deque[str] = deque(maxlen=20)
    with subprocess.Popen(
        ["cmake", "--build", str(objects), "--target", *targets],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as run:
        for line in run.stdout or ():
            last.append(line.rstrip())
            if (fraction := ninja_fraction(line)) is not None:
                progress(CONFIGURED + fraction * (COMPILED - CONFIGURED), f"compiling llama.cpp {PIN.build}")
    if run.returncode:
        raise _failed("ninja", list(last))


def _failed(what: str, output: list[str]) -> StageFailure:
    tail = "\n".join(output[-20:])
    return StageFailure(
        FailureClass.TOOLS_MISSING,
        f"llama.cpp could not be built, {what} says:\n{tail}",
        "The same command again goes on where this build stopped.",
    )


def _lay_out(source: Path, objects: Path, draft: Path) -> None:
    """Copy what `tunesmith.llama_cpp.tools` lays down, with the licences that go with it."""
    shutil.rmtree(draft, ignore_errors=True)
    tree = source / PIN.tree
    wanted = [*(objects / "bin").glob("lib*.so*"), *(objects / "bin" / tool.name for tool in EXECUTABLES.values())]
    (draft / "bin").mkdir(parents=True)
    for file in wanted:
        shutil.copy2(file, draft / "bin" / file.name, follow_symlinks=False)
    for script in SCRIPTS.values():
        (draft / script).parent.mkdir(exist_ok=True)
        shutil.copy2(tree / script.name, draft / script)
    for package in ("conversion", "gguf-py"):
        shutil.copytree(tree / package, draft / "convert" / package)
    shutil.copytree(source / "llama_cpp", draft / "python" / "llama_cpp")
    # The bindings look there for the library that they bind.
    (draft / "python" / "llama_cpp" / "lib").symlink_to("../../bin")
    shutil.copy2(tree / "LICENSE", draft / "LICENSE.llama.cpp")
    shutil.copy2(source / "LICENSE.md", draft / "LICENSE.llama-cpp-python")


def _accept(draft: Path) -> None:
    """Refuse a build that cannot do what we need or does not say which llama.cpp it is."""
    problems = shortcomings(draft)
    # llama.cpp prints the first 7 characters where git gave it the commit, and all of what it was given otherwise.
    build = read_build(draft)
    if build is None or build.number != PIN.build.number or not PIN.build.commit.startswith(build.commit[:7]):
        problems.append(f"it says that it is {build}")
    if problems:
        raise StageFailure(FailureClass.TOOLS_MISSING, f"llama.cpp {PIN.build} was built, but {'; '.join(problems)}")
