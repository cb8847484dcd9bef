#!/bin/sh
# packages.sh REQUIREMENTS: the pinned packages, checked by their hashes, in /opt/tunesmith.
set -eu
python3 -m venv --without-pip /opt/tunesmith
# Compiled once: in a pod the root file system can be read only.
/opt/build/bin/uv pip sync --quiet --no-cache --compile-bytecode --link-mode copy \
  --python /opt/tunesmith/bin/python --require-hashes "$1"
