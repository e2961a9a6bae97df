#!/usr/bin/env bash
# The generated files are what hack/update-codegen.sh makes. It runs in a copy, so a work tree with changes stays as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R go.mod go.sum hack pkg "$copy"
log=$("$copy/hack/update-codegen.sh" 2>&1) || { echo "$log"; exit 1; }
failed=0
for path in pkg hack/api-violations.list; do
  diff -ruN "$path" "$copy/$path" || failed=1
done
[ "$failed" = 0 ] || { echo "generated files are out of date: make update-codegen" >&2; exit 1; }
