#!/usr/bin/env bash
# Formats Go files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
gofmt -s -l -w .
