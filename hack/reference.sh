#!/usr/bin/env bash
# Prints what a program in _output/bin, and each of its commands where it has some, says to --help: what docs/reference/<program>.txt is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
program=_output/bin/$1
"$program" --help
for command in $("$program" --help | sed -n '/^Available Commands:/,/^$/s/^  \([a-z]\{1,\}\) .*/\1/p'); do
  [ "$command" != help ] || continue
  printf '\n--- %s %s\n\n' "$1" "$command"
  "$program" "$command" --help | sed '/^Global Flags:/,$d'
done
