"""``python charts/generate.py [--check] [--root DIR]``: writes what is generated of the chart, or says what differs."""

import sys

import dashboard
import values
from tunesmith_api.generate.files import main

GENERATED = {
    "charts/tunesmith/values.schema.json": values.schema,
    "docs/reference/configuration.md": values.page,
    "charts/tunesmith/files/dashboard.json": dashboard.text,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], GENERATED, __doc__))
