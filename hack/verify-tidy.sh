#!/usr/bin/env bash
# Every go.mod and go.sum of the repository is what go mod tidy makes of it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
failed=0
for mod in go.mod hack/*/go.mod; do
  go -C "$(dirname "$mod")" mod tidy -diff || { echo "$mod is not tidy: make update-tidy" >&2; failed=1; }
done
exit "$failed"
