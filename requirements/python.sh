#!/bin/sh
# Prints the path of a Python that Tunesmith runs on (3.11 to 3.13, as pyproject.toml says); fails if there is none.
set -eu
# Who names one means that one, and no other in its stead.
if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.12 python3.13 python3.11; fi
for name; do
  # Asked, not looked for: a version manager has commands that end with "not installed".
  path=$("$name" -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); print(sys.executable if ok else "")' 2>/dev/null) || continue
  if [ -n "$path" ]; then
    echo "$path"
    exit 0
  fi
done
[ -z "${PYTHON:-}" ] || echo "setup: PYTHON=$PYTHON is no Python 3.11 to 3.13; name another, or none" >&2
exit 1
