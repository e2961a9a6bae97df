#!/usr/bin/env bash
# Adds missing headers to Go files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go run ./hack/licences -fix
