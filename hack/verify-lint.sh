#!/usr/bin/env bash
# Import rules (hack/imports/rules.go), logging conventions (hack/tools/logcheck), staticcheck, and go fix: no older way of
# writing where the language has a better one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
failed=0
go run ./hack/imports || failed=1
mkdir -p _output/tools
go -C hack/tools build -o ../../_output/tools/ ./logcheck honnef.co/go/tools/cmd/staticcheck
go vet -vettool="$PWD/_output/tools/logcheck" -tags=integration,e2e ./... || failed=1
go list ./... | grep -v /pkg/generated/ | xargs _output/tools/staticcheck -tags=integration,e2e || failed=1
go fix -diff -omitzero=false -stringsbuilder=false -tags=integration,e2e ./... || { echo "go fix has proposals: make update-lint" >&2; failed=1; }
go -C hack/tools test ./... || failed=1
exit "$failed"
