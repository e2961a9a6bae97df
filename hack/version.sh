#!/usr/bin/env bash
# Prints the version of the work tree as a semantic version: v1.2.3 at a tag, v1.2.3-4-g0123456 after one,
# v0.0.0-g0123456 where there is no tag, each with -dirty where there are changes; v0.0.0-unknown outside of git.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if version=$(git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null); then
  echo "$version"
elif commit=$(git describe --always --dirty --exclude '*' 2>/dev/null); then
  echo "v0.0.0-g$commit"
else
  echo v0.0.0-unknown
fi
