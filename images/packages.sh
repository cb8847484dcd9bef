#!/bin/sh
# packages.sh REQUIREMENTS: the pinned packages, checked by their hashes, in /opt/tunesmith. What installs them comes and
# goes in the same layer.
set -eu
"$(dirname "$0")/uv.sh"
python3 -m venv --without-pip /opt/tunesmith
# Compiled once: in a pod the root file system can be read only.
/opt/build/bin/uv pip sync --quiet --no-cache --compile-bytecode --link-mode copy \
  --python /opt/tunesmith/bin/python --require-hashes "$1"
rm -rf /opt/build
apt-get purge --yes --auto-remove python3-venv >/dev/null
rm -rf /var/lib/apt/lists/* /var/cache/apt/*
