#!/bin/sh
# The project's own code, out of /source into /code, with the build backend that is pinned with the packages.
set -eu
cd /source
/opt/build/bin/uv build --quiet --wheel --no-build-isolation --python /opt/tunesmith/bin/python
/opt/build/bin/uv pip install --quiet --no-cache --no-deps --compile-bytecode --target /code dist/*.whl
