#!/usr/bin/env bash
# Lets go fix write the newer way where the language has one. Left out are omitzero, which would change the JSON of the API, and
# stringsbuilder, which makes a few short lines longer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go fix -omitzero=false -stringsbuilder=false -tags=integration,e2e ./...
