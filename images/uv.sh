#!/bin/sh
# uv in /opt/build, checked by the hashes of uv.txt beside this script.
set -eu
apt-get update >/dev/null
apt-get install --yes --no-install-recommends python3-venv >/dev/null
python3 -m venv /opt/build
/opt/build/bin/pip install --quiet --no-cache-dir --require-hashes -r "$(dirname "$0")/uv.txt"
