#!/usr/bin/env bash
# Writes what each program says to --help into docs/reference/<program>.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
make build >/dev/null
mkdir -p docs/reference
for app in cmd/*/app; do # corepipe has none: people do not run it
  program=$(basename "$(dirname "$app")")
  hack/reference.sh "$program" >"docs/reference/$program.txt"
done
