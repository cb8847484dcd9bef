#!/bin/sh
# What 'make cluster' needs beside 'make setup', as root on Debian or Ubuntu: containers, their network, image builds.
set -eu
missing=""

need() {  # need COMMAND PACKAGE
  command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

[ "$(id -u)" = 0 ] || { echo "cluster: a Kubernetes of its own needs root; name one that is there: TUNESMITH_TEST_KUBECONFIG" >&2; exit 1; }
need containerd containerd
need runc runc
need buildah buildah
need debootstrap debootstrap
need docker-registry docker-registry
need iptables iptables
need conntrack conntrack
need ip iproute2
need openssl openssl
[ -x /usr/lib/cni/bridge ] || missing="$missing containernetworking-plugins"

[ -n "$missing" ] || exit 0
if command -v apt-get >/dev/null 2>&1; then
  echo "cluster: installing the system packages$missing" >&2
  # shellcheck disable=SC2086  # a list of words
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $missing >/dev/null ||
    { apt-get update >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $missing >/dev/null; }
  exit 0
fi
echo "cluster: some system packages are missing:$missing" >&2
exit 1
