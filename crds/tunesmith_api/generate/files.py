"""Generated files: written where they differ from what they are made from, or only named."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

Generated = Mapping[str, Callable[[], str]]
"""What makes each file, by its path in the repository."""


def differing(root: Path, generated: Generated) -> list[str]:
    """The generated files below `root` that are absent or are not what they are made from."""
    return [
        path
        for path, text in generated.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text()
    ]


def write(root: Path, generated: Generated) -> list[str]:
    """Writes what differs and returns its paths."""
    changed = differing(root, generated)
    for path in changed:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(generated[path](), encoding="utf-8")
    return changed


def main(arguments: list[str], generated: Generated, description: str | None) -> int:
    """A command that writes them; with --check 1 where one differs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 and name the files that differ")
    parser.add_argument("--root", type=Path, default=Path(), help="the root of the repository (default: this folder)")
    options = parser.parse_args(arguments)
    if not options.check:
        for path in write(options.root, generated):
            print(f"written: {path}")
        return 0
    wrong = differing(options.root, generated)
    for path in wrong:
        print(f"differs from the models: {path} (run 'make generate')", file=sys.stderr)
    return 1 if wrong else 0
