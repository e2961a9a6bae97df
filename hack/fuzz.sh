#!/usr/bin/env bash
# Runs every fuzz test of the module for FUZZTIME (30s), one after the other. What a run finds, go test writes below the package's
# testdata/fuzz: commit it with the repair.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
time=${FUZZTIME:-30s}
failed=0
while IFS=: read -r file function; do
  package=$(dirname "$file")
  echo "fuzz $package $function ($time)"
  go test -run='^$' -fuzz="^$function\$" -fuzztime="$time" "$package" || failed=1
done < <(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' ./cmd ./pkg ./test | sed 's/:func /:/' | sort -u)
exit "$failed"
