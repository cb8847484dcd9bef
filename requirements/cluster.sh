#!/bin/sh
# What 'make cluster' needs beside 'make setup', as root on Debian or Ubuntu: containers, their network, image builds.
set -eu
. "$(dirname "$0")/missing.sh"

if [ "$(id -u)" != 0 ]; then
  echo "cluster: the network and the containers of a node of its own need root" >&2
  exit 1
fi
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

if [ -n "$missing" ] && ! install_missing cluster >&2; then
  echo "cluster: some system packages are missing:$missing" >&2
  exit 1
fi
