"""``python -m tunesmith_api.generate [--check] [--root DIR]``: writes what is generated, or says what differs."""

import json
import sys
from collections.abc import Callable

import yaml

from tunesmith_api.generate.crd import crd
from tunesmith_api.generate.editors import editor_schema
from tunesmith_api.generate.errors import errors_page
from tunesmith_api.generate.files import main
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], GENERATED, __doc__))
