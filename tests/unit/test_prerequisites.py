"""What 'make setup' asks of the system: requirements/system.sh and python.sh themselves, on systems that lack much."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.llama_cpp_folders import a_script

ROOT = Path(__file__).parents[2]
ROOT_USER, SOMEBODY = 0, 1000
PACKAGES = {"cmake": "cmake", "ninja": "ninja-build", "c++": "g++", "openssl": "openssl"}

# A real Python that says it is another one: {home} has its headers, or not.
_PYTHON = """#!{real}
import sys, sysconfig, types
sys.version_info, sys.executable = {version}, {path!r}
sysconfig.get_path = lambda name: {home!r}
sys.modules["ensurepip"] = types.ModuleType("ensurepip") if {complete} else None
exec(sys.argv[2])
"""
_APT_GET = """echo "$*" >> {calls}
case "$1" in update) : > {lists} ;; *) [ -e {lists} ] ;; esac"""


class System:
    """A machine whose PATH has what the scripts are made of, and what a test puts there."""

    def __init__(self, folder: Path, user: int = SOMEBODY) -> None:
        """As `user`, who has neither tools nor Python nor apt-get yet."""
        self._folder, self.bin = folder, folder / "bin"
        a_script(self.bin / "id", f"echo {user}")
        for name in ("cat", "dirname"):
            (self.bin / name).symlink_to(str(shutil.which(name)))

    def with_tools(self, *names: str) -> "System":
        """Commands that are only looked for."""
        for name in names:
            a_script(self.bin / name, "exit 0")
        return self

    def with_apt_get(self, *, lists: bool = True) -> "System":
        """One that notes its calls; without package `lists` it installs nothing until it has updated them."""
        there = self._folder / "lists"
        if lists:
            there.touch()
        a_script(self.bin / "apt-get", _APT_GET.format(calls=self._folder / "calls", lists=there))
        return self

    def with_python(self, version: tuple[int, int], name: str = "python3", *, complete: bool = True) -> "System":
        """A Python of that version, with headers and venv if it is `complete`."""
        home = self._folder / f"include-{name}"
        home.mkdir()
        if complete:
            (home / "Python.h").touch()
        parts = {"real": sys.executable, "version": version, "path": str(self.bin / name)}
        script = a_script(self.bin / name, "")
        script.write_text(_PYTHON.format(**parts, home=str(home), complete=complete))
        return self

    def run(self, script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """A script of requirements/, to its end."""
        command = [ROOT / "requirements" / script]
        surroundings = {"PATH": str(self.bin)} | environment
        return subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False)

    def apt_calls(self) -> list[str]:
        """What apt-get was asked for."""
        calls = self._folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


def lines_to_type(stderr: str) -> list[str]:
    return [line.strip() for line in stderr.splitlines() if line.strip().startswith("sudo ")]


@pytest.mark.parametrize("user", [ROOT_USER, SOMEBODY])
def test_a_machine_that_has_all_is_told_nothing(tmp_path: Path, user: int) -> None:
    """As root too: nothing is installed over what is there."""
    system = System(tmp_path, user).with_tools(*PACKAGES).with_apt_get().with_python((3, 12))
    ran = system.run("system.sh")

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert system.apt_calls() == []


@pytest.mark.parametrize("absent", PACKAGES)
def test_root_installs_the_one_package_that_is_missing(tmp_path: Path, absent: str) -> None:
    """And says so."""
    system = System(tmp_path, ROOT_USER).with_tools(*PACKAGES.keys() - {absent}).with_apt_get().with_python((3, 12))
    ran = system.run("system.sh")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == f"setup: installing the system packages {PACKAGES[absent]}\n"
    assert system.apt_calls() == [f"install --yes --no-install-recommends {PACKAGES[absent]}"]


def test_root_updates_package_lists_that_are_not_there(tmp_path: Path) -> None:
    """A fresh container has none."""
    system = System(tmp_path, ROOT_USER).with_apt_get(lists=False).with_python((3, 11), complete=False)
    ran = system.run("system.sh")

    install = "install --yes --no-install-recommends cmake ninja-build g++ openssl python3-dev python3-venv"
    assert (ran.returncode, ran.stderr) == (0, "")
    assert system.apt_calls() == [install, "update", install]


def test_a_user_is_told_the_line_that_the_documentation_has(tmp_path: Path) -> None:
    """One line with all that is missing; apt-get is left alone."""
    system = System(tmp_path).with_apt_get().with_python((3, 11), complete=False)
    ran = system.run("system.sh")

    [line] = lines_to_type(ran.stderr)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert line in (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    assert line.endswith("cmake ninja-build g++ openssl python3-dev python3-venv")
    assert system.apt_calls() == []


def test_root_without_apt_get_is_told_as_well(tmp_path: Path) -> None:
    """On another system than Debian."""
    ran = System(tmp_path, ROOT_USER).with_tools("cmake", "ninja", "c++").with_python((3, 13)).run("system.sh")

    assert (ran.returncode, ran.stdout) == (1, "")
    assert lines_to_type(ran.stderr) == ["sudo apt-get update && sudo apt-get install --yes openssl"]


def test_venv_is_not_needed_where_uv_is(tmp_path: Path) -> None:
    """Headers are."""
    ran = System(tmp_path).with_tools(*PACKAGES, "uv").with_python((3, 12), complete=False).run("system.sh")

    assert lines_to_type(ran.stderr) == ["sudo apt-get update && sudo apt-get install --yes python3-dev"]


def test_a_system_of_an_old_python_is_told_how_to_name_another(tmp_path: Path) -> None:
    """Even after root has installed what the system has."""
    system = System(tmp_path, ROOT_USER).with_tools(*PACKAGES).with_apt_get().with_python((3, 10))
    ran = system.run("system.sh")

    assert ran.returncode == 1
    assert system.apt_calls() == ["install --yes --no-install-recommends python3 python3-dev python3-venv"]
    assert "Tunesmith needs Python 3.11 to 3.13" in ran.stderr
    assert "make setup PYTHON=/path/to/python3.12" in ran.stderr


@pytest.mark.parametrize(
    ("version", "code"), [((3, 10), 1), ((3, 11), 0), ((3, 12), 0), ((3, 13), 0), ((3, 14), 1), ((2, 7), 1)]
)
def test_a_python_is_taken_by_its_version(tmp_path: Path, version: tuple[int, int], code: int) -> None:
    """Its path is what is printed."""
    system = System(tmp_path).with_python(version)
    ran = system.run("python.sh")

    assert (ran.returncode, ran.stdout) == (code, "" if code else f"{system.bin}/python3\n")


def test_another_python_is_found_beside_one_that_will_not_do(tmp_path: Path) -> None:
    """Beside a version manager's command that ends with "not installed" too."""
    system = System(tmp_path).with_python((3, 10)).with_python((3, 13), "python3.13")
    a_script(system.bin / "python3.12", "echo 'python3.12: not installed' >&2; exit 127")

    assert system.run("python.sh").stdout == f"{system.bin}/python3.13\n"


def test_a_python_that_is_named_is_taken_or_refused(tmp_path: Path) -> None:
    """Never another in its stead; and no package of the system would help."""
    system = System(tmp_path, ROOT_USER).with_tools(*PACKAGES).with_apt_get().with_python((3, 11))
    system.with_python((3, 12), "mine").with_python((3, 14), "newer")
    refused = system.run("system.sh", PYTHON="newer")

    assert system.run("python.sh", PYTHON="mine").stdout == f"{system.bin}/mine\n"
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "setup: PYTHON=newer is no Python 3.11 to 3.13; name another, or none\n"
    assert system.apt_calls() == []
