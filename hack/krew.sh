#!/usr/bin/env bash
# Makes the archives of kubectl-coredump for all platforms of artifacts/krew/coredump.yaml, and the manifest with their checksums:
#
#   hack/krew.sh v1.2.3 https://downloads.example.org/v1.2.3 _output/krew
#
# PLATFORMS="linux-amd64 linux-arm64" makes only these, and a manifest that has only these.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if (($# != 3)); then
  sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
version=$1 address=${2%/} out=$3
if [[ ! $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]]; then
  echo "krew.sh: the version is $version: krew takes only those like v1.2.3 and v1.2.3-rc.1" >&2
  exit 2
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
manifest=$(<artifacts/krew/coredump.yaml)
manifest=${manifest//"https://releases.example.io/coredump/v0.0.0"/"$address"}
manifest=${manifest//v0.0.0/"$version"}
while read -r archive; do
  platform=${archive#kubectl-coredump-} platform=${platform%.tar.gz}
  if [[ " ${PLATFORMS:-$platform} " != *" $platform "* ]]; then
    manifest=$(sed "/os: ${platform%-*}, arch: ${platform#*-}}/,/bin:/d" <<<"$manifest")
    continue
  fi
  dir=$work/$platform
  mkdir "$dir"
  program=kubectl-coredump
  if [[ $platform == windows-* ]]; then program+=.exe; fi
  CGO_ENABLED=0 GOOS=${platform%-*} GOARCH=${platform#*-} go build -trimpath \
    -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" -o "$dir/$program" ./cmd/kubectl-coredump
  cp LICENSE "$dir/"
  if [[ $platform != windows-* ]]; then cp artifacts/krew/kubectl_complete-coredump "$dir/"; fi # Windows runs no scripts of sh
  tar --sort=name --mode=u=rwX,go=rX --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$dir" -cf - . | gzip -n >"$out/$archive"
  sum=$(sha256sum "$out/$archive" | cut -d' ' -f1)
  manifest=$(awk -v archive="/$archive" -v sum="$sum" 'index($0, archive) {hit = 1} hit && /sha256:/ {sub(/"[0-9a-f]+"/, "\"" sum "\""); hit = 0} {print}' <<<"$manifest")
done < <(sed -n 's|.*/\(kubectl-coredump-.*\.tar\.gz\)$|\1|p' artifacts/krew/coredump.yaml)
if [[ $manifest != *" uri: "* ]]; then
  echo "krew.sh: PLATFORMS is $PLATFORMS: artifacts/krew/coredump.yaml has none of them" >&2
  exit 2
fi
echo "$manifest" >"$out/coredump.yaml"
