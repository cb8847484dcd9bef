"""``python -m tunesmith_api.generate [--check] [--root DIR]``: writes what is generated, or says what differs."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from tunesmith_api.generate.crd import crd
from tunesmith_api.generate.editors import editor_schema
from tunesmith_api.generate.errors import errors_page
from tunesmith_api.generate.reference import reference_page
from tunesmith_api.report import Report


def _crd_text() -> str:
    head = "# Generated from the models in crds/tunesmith_api by 'make generate'; change those, not this file.\n"
    return head + yaml.safe_dump(crd(), sort_keys=False, width=120, allow_unicode=True)


def _editors_text() -> str:
    return json.dumps(editor_schema(), indent=2) + "\n"


def _report_text() -> str:
    return json.dumps(Report.model_json_schema(by_alias=True), indent=2) + "\n"


# Every generated file, by its path in the repository.
GENERATED: dict[str, Callable[[], str]] = {
    "crds/tunesmith.dev_finetunejobs.yaml": _crd_text,
    # No link: Flux leaves links out of what it fetches.
    "charts/tunesmith/files/tunesmith.dev_finetunejobs.yaml": _crd_text,
    "docs/finetunejob.schema.json": _editors_text,
    "docs/report.schema.json": _report_text,
    "docs/errors.md": errors_page,
    "docs/reference/manifest.md": reference_page,
}


def differing(root: Path) -> list[str]:
    """The generated files below `root` that are absent or are not what the models say."""
    return [
        path
        for path, text in GENERATED.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text()
    ]


def write(root: Path) -> list[str]:
    """Writes what differs and returns its paths."""
    changed = differing(root)
    for path in changed:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(GENERATED[path](), encoding="utf-8")
    return changed


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tunesmith_api.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 and name the files that differ")
    parser.add_argument("--root", type=Path, default=Path(), help="the root of the repository (default: this folder)")
    options = parser.parse_args(arguments)
    if not options.check:
        for path in write(options.root):
            print(f"written: {path}")
        return 0
    wrong = differing(options.root)
    for path in wrong:
        print(f"differs from the models: {path} (run 'make generate')", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
