#!/usr/bin/env bash
# Makes the archives of kubectl-coredump for all platforms of artifacts/krew/coredump.yaml, and the manifest with their checksums:
#
#   hack/krew.sh v1.2.3 https://downloads.example.org/v1.2.3 _output/krew
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if (($# != 3)); then
  sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
version=$1 address=$2 out=$3
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
manifest=$(sed -e "s|v0\.0\.0|$version|" -e "s|https://releases.example.io/coredump/$version|$address|" artifacts/krew/coredump.yaml)
while read -r archive; do
  platform=${archive#kubectl-coredump-} platform=${platform%.tar.gz}
  dir=$work/$platform
  mkdir "$dir"
  program=kubectl-coredump
  if [[ $platform == windows-* ]]; then program+=.exe; fi
  CGO_ENABLED=0 GOOS=${platform%-*} GOARCH=${platform#*-} go build -trimpath \
    -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" -o "$dir/$program" ./cmd/kubectl-coredump
  cp LICENSE artifacts/krew/kubectl_complete-coredump "$dir/"
  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$dir" -cf - . | gzip -n >"$out/$archive"
  sum=$(sha256sum "$out/$archive" | cut -d' ' -f1)
  manifest=$(awk -v archive="/$archive" -v sum="$sum" 'index($0, archive) {hit = 1} hit && /sha256:/ {sub(/"[0-9a-f]+"/, "\"" sum "\""); hit = 0} {print}' <<<"$manifest")
done < <(sed -n 's|.*/\(kubectl-coredump-.*\.tar\.gz\)$|\1|p' artifacts/krew/coredump.yaml)
echo "$manifest" >"$out/coredump.yaml"
