#!/usr/bin/env bash
# Go files are formatted by gofmt -s.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
diff=$(gofmt -s -d .)
[ -z "$diff" ] || { echo "$diff"; echo "not formatted: make update-format" >&2; exit 1; }
