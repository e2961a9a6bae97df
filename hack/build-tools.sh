#!/usr/bin/env bash
# Builds the programs that the tests and the demo run but that are not ours, from pinned modules:
#
#   hack/build-tools.sh controlplane   kube-apiserver kube-controller-manager kubectl etcd
#   hack/build-tools.sh s3server       an S3 server (versitygw's gateway over a directory)
#   hack/build-tools.sh node           kube-scheduler kubelet
#   hack/build-tools.sh containerd     containerd containerd-shim-runc-v2 ctr
#   hack/build-tools.sh runc           runc; needs gcc and libseccomp-dev
#   hack/build-tools.sh cni            bridge host-local loopback
#   hack/build-tools.sh                controlplane and s3server
#
# and prints, one a line, the directory of each that was asked for. What is already built is not built again: a directory's name
# holds a hash of the pinned versions. KUBEBUILDER_ASSETS, where set, replaces the control plane: it
# must hold kube-apiserver, etcd and kubectl.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${COREDUMP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/coredump}

# build NAME: runs build_NAME with the destination as its argument, once for every set of versions.
build() {
  local name=$1 key dest tmp
  key=$(cat "$here/$name"/go.{mod,sum} "$here/$name"/*.go "${BASH_SOURCE[0]}" | sha256sum | cut -c1-16)
  dest=$cache/$name-$key
  if [ ! -d "$dest" ]; then
    mkdir -p "$cache"
    tmp=$(mktemp -d "$cache/.$name.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    echo "building $name into $dest (once; minutes on a cold Go cache)" >&2
    (cd "$here/$name" && "build_$name" "$tmp")
    chmod 755 "$tmp"
    mv -T "$tmp" "$dest" 2>/dev/null || rm -rf "$tmp" # somebody else was faster: theirs is as good
    trap - EXIT
  fi
  echo "$dest"
}

# kubernetes DESTINATION PROGRAM...: programs of k8s.io/kubernetes, in the version that the module of the current directory pins.
kubernetes() {
  local dest=$1 v="k8s.io/component-base/version" version minor
  shift
  version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
  minor=$(cut -d. -f2 <<<"$version")
  # Without the version kube-apiserver calls itself v0.0.0 and clients that compare versions go wrong.
  local ld="-s -w -X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=$minor -X $v.gitTreeState=clean"
  local name
  for name in "$@"; do
    CGO_ENABLED=0 go build -trimpath -ldflags "$ld" -o "$dest/$name" "k8s.io/kubernetes/cmd/$name"
  done
}

build_controlplane() {
  kubernetes "$1" kubectl kube-apiserver kube-controller-manager
  CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$1/etcd" go.etcd.io/etcd/server/v3
}

build_node() {
  kubernetes "$1" kube-scheduler kubelet
}

build_containerd() {
  local name
  for name in containerd containerd-shim-runc-v2 ctr; do
    CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$1/$name" "github.com/containerd/containerd/v2/cmd/$name"
  done
}

# runc enters namespaces in C; and kubelet wants a seccomp profile for each sandbox, which takes libseccomp.
build_runc() {
  CGO_ENABLED=1 go build -trimpath -tags 'seccomp netgo osusergo' -ldflags '-s -w -linkmode external -extldflags "-static"' \
    -o "$1/runc" github.com/opencontainers/runc
}

build_cni() {
  local plugin
  for plugin in main/bridge main/loopback ipam/host-local; do
    CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$1/${plugin#*/}" "github.com/containernetworking/plugins/plugins/$plugin"
  done
}

build_s3server() {
  CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$1/s3server" .
}

[ $# -gt 0 ] || set -- controlplane s3server
for name in "$@"; do
  case $name in
  controlplane) if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then echo "$KUBEBUILDER_ASSETS"; else build controlplane; fi ;;
  s3server | node | containerd | runc | cni) build "$name" ;;
  *) echo "build-tools.sh: unknown: $name; known: controlplane, s3server, node, containerd, runc, cni" >&2; exit 2 ;;
  esac
done
