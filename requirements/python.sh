#!/bin/sh
# Prints the path of a Python that Tunesmith runs on (3.11 to 3.13, as pyproject.toml says); fails if there is none.
set -eu
for name in "${PYTHON:-python3}" python3.12 python3.13 python3.11; do
  # Asked, not looked for: a version manager has commands that end with "not installed".
  path=$("$name" -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); print(sys.executable if ok else "")' 2>/dev/null) || continue
  if [ -n "$path" ]; then
    echo "$path"
    exit 0
  fi
done
exit 1
