#!/bin/sh
# packages.sh REQUIREMENTS: the pinned packages, checked by their hashes, in /opt/tunesmith; uv, which installs them and
# the code, in /opt/build, which goes into no image.
set -eu
apt-get update >/dev/null
apt-get install --yes --no-install-recommends python3-venv >/dev/null
python3 -m venv --without-pip /opt/tunesmith
python3 -m venv /opt/build
/opt/build/bin/pip install --quiet --no-cache-dir --require-hashes -r /requirements/uv.txt
# Compiled once: in a pod the root file system can be read only.
/opt/build/bin/uv pip sync --quiet --no-cache --compile-bytecode --link-mode copy \
  --python /opt/tunesmith/bin/python --require-hashes "$1"
