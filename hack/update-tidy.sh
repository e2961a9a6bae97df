#!/usr/bin/env bash
# Makes every go.mod and go.sum of the repository tidy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for mod in go.mod hack/*/go.mod; do
  go -C "$(dirname "$mod")" mod tidy
done
