#!/bin/sh
# Looks whether this machine has what 'make setup' cannot bring itself. What is missing is installed where we are root
# on Debian or Ubuntu; elsewhere the one line to type is printed, and setup ends.
set -eu
here=$(dirname "$0")
. "$here/missing.sh"

need cmake cmake
need ninja ninja-build
need c++ g++
# Makes the certificates of the servers that the tests start.
need openssl openssl
if python=$("$here/python.sh"); then
  # Both engines compile small C programs against Python's headers when they train on a GPU.
  "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
    missing="$missing python3-dev"
  # Without uv, setup makes an environment to put it into.
  command -v uv >/dev/null 2>&1 || "$python" -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
elif [ -n "${PYTHON:-}" ]; then
  exit 1  # told, and nothing that could be installed would cure it
else
  missing="$missing python3 python3-dev python3-venv"
fi

[ -n "$missing" ] || exit 0
if install_missing setup; then
  "$here/python.sh" >/dev/null && exit 0
fi
cat >&2 <<END
setup: some system packages are missing. On Debian 12, Ubuntu 24.04 or newer:

  sudo apt-get update && sudo apt-get install --yes$missing

Tunesmith needs Python 3.11 to 3.13; with an older system, name yours: make setup PYTHON=/path/to/python3.12
END
exit 1
