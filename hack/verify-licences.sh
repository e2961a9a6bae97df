#!/usr/bin/env bash
# Go files have the header of hack/boilerplate.go.txt; what gets linked into our programs has an allowed licence.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go run ./hack/licences
