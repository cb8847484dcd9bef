"""An environment with the packages of ``pip install .`` and no others: what the extras bring is not there at all."""

import os
import subprocess
import venv
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.runs import Ran

ROOT = Path(__file__).parents[2]


def make_base_install(folder: Path) -> Path:
    """Its Python; the packages are links to those that are installed here, the project is this working tree."""
    venv.create(folder, symlinks=True)
    [site] = folder.glob("lib/python*/site-packages")
    for name in _needed("tunesmith", set()):
        distribution = metadata.distribution(name)
        # A .pth file of an editable install may name another working tree.
        tops = {file.parts[0] for file in distribution.files or () if file.suffix != ".pth"}
        for top in tops - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(str(distribution.locate_file(top)))
    (site / "tunesmith.pth").write_text(f"{ROOT / 'crds'}\n{ROOT / 'trainer'}\n")
    return folder / "bin" / "python"


def _needed(name: str, found: set[str]) -> set[str]:
    """`name` and all that it asks for without extras, added to `found`."""
    if name not in found:
        found.add(name)
        for line in metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                _needed(canonicalize_name(requirement.name), found)
    return found


def started(python: Path, *arguments: str | Path, **environment: str) -> Ran:
    """A command of the command line, run to its end by this Python; so are its own children."""
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), "-c", "from tunesmith.cli import main; main()", *map(str, arguments)]
    surroundings |= {"COLUMNS": "400"} | environment
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False)
    return Ran.of(done.returncode, done.stdout, done.stderr)
