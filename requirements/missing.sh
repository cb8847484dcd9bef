# To be read by the scripts beside it: which packages a system lacks, and their installation where we are root.
missing=""

need() {  # need COMMAND PACKAGE
  command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

install_missing() {  # install_missing WHO: false where only somebody else can install them
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
  echo "$1: installing the system packages$missing"
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086  # a list of words
  apt-get install --yes --no-install-recommends $missing >/dev/null ||
    { apt-get update >/dev/null && apt-get install --yes --no-install-recommends $missing >/dev/null; }
}
