#!/bin/sh
# llama.cpp in /llama.cpp, from the pinned source, compiled as on a laptop: for any x86-64 processor, what it can do is
# found out when it runs.
set -eu
apt-get update >/dev/null
apt-get install --yes --no-install-recommends cmake g++ ninja-build python3-pip >/dev/null
PYTHONPATH=/source TUNESMITH_CACHE=/built python3 -m tunesmith.llama_cpp
mv /built/llama.cpp/b[0-9]* /llama.cpp
