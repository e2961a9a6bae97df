#!/usr/bin/env bash
# Writes what each program says to --help into docs/reference/<program>.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
make build >/dev/null
mkdir -p docs/reference
for main in cmd/*/main.go; do
  program=$(basename "$(dirname "$main")")
  "_output/bin/$program" --help >"docs/reference/$program.txt"
done
