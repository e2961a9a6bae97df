#!/usr/bin/env bash
# Installs the Debian packages whose programs are missing:
#
#   hack/install-deps.sh [test] [verify] [bench] [node]     for the tests, the checks, the benchmarks, the tests on a node
#
# Where it cannot (not root, no apt-get, no package), it says what is missing and what for, and succeeds: what needs
# the program then says so itself, by a skipped test, a failed check or a missing row.
set -euo pipefail

# program, package, what for, why
known='
gcc         gcc             test    the race detector links with it
gcc         libc6-dev       test    the race detector links with it
gdb         gdb             test    opens the cores that come out at the end
file        file            test    tells a core from anything else, independently of us
zstd        zstd            test    reads what we have stored, independently of us
tar         tar             test    reads what we serve
shellcheck  shellcheck      verify  make verify-shell
aws         awscli          bench   the peer of upload_vs_awscli
rclone      rclone          bench   the peer of upload_vs_rclone
gcc         libc6-dev       bench   builds the program that crashes
pigz        pigz            bench   the peer of hold_pigz_vs_pipe
coredumpctl systemd-coredump bench  the peer of hold_systemd_vs_pipe
ip          iproute2        node    gives the network namespace its addresses
openssl     openssl         node    artifacts/make-certs.sh
gcc         libseccomp-dev  node    runc is linked with it
'

# systemd-coredump is unpacked here and not installed: its installation would make it the handler of this machine's crashes.
unpacked=_output/systemd-coredump

# unpack PACKAGE: with the library that it is linked with, which is not for programs of others.
unpack() {
  local dir
  dir=$(mktemp -d)
  chmod 755 "$dir"
  mkdir -p "$unpacked"
  if (cd "$dir" && apt-get -qq download "$1" >/dev/null 2>&1); then dpkg -x "$dir"/*.deb "$unpacked"; fi
  rm -rf "$dir"
  [ -x "$unpacked/lib/systemd/systemd-coredump" ] && apt-get -qq install -y --no-install-recommends libsystemd-shared libdw1 >/dev/null
}

# have PROGRAM PACKAGE: of programs in the user's own directories nobody knows which version they are, so those do not count.
have() {
  case $2 in
  libc6-dev) [ -e /usr/include/stdlib.h ] ;;
  libseccomp-dev) [ -e /usr/include/seccomp.h ] ;;
  awscli | rclone | pigz) [ -x "/usr/bin/$1" ] ;;
  systemd-coredump) [ -x "$unpacked/lib/systemd/systemd-coredump" ] ;;
  *) command -v "$1" >/dev/null ;;
  esac
}

# missing PURPOSE...: the lines of the table whose program is not there.
missing() {
  local program package purpose why
  while read -r program package purpose why; do
    [[ " $* " == *" $purpose "* ]] || continue
    have "$program" "$package" || echo "$program $package $purpose $why"
  done < <(grep . <<<"$known")
}

[ $# -gt 0 ] || set -- test verify bench
wanted=$(missing "$@")
[ -n "$wanted" ] || exit 0
mapfile -t packages < <(awk '{print $2}' <<<"$wanted")
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${packages[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  if apt-get -qq update >/dev/null; then
    for package in "${packages[@]}"; do # one by one: what there is gets installed, whatever else there is not
      install=(apt-get -qq install -y --no-install-recommends)
      [ "$package" != systemd-coredump ] || install=(unpack)
      "${install[@]}" "$package" >/dev/null || echo "apt-get could not install $package" >&2
    done
  fi
fi
missing "$@" | while read -r program package purpose why; do
  echo "MISSING: $program, for $purpose: $why. On Debian: apt-get install $package" >&2
done
