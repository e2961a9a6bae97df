#!/usr/bin/env bash
# Shell scripts pass shellcheck.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v shellcheck >/dev/null || { echo "shellcheck is missing: hack/install-deps.sh verify" >&2; exit 1; }
mapfile -t scripts < <(grep -rlE --exclude-dir=.git --exclude-dir=_output '^#!.*\b(ba)?sh$|^# shellcheck shell=' .)
shellcheck -x "${scripts[@]}"
