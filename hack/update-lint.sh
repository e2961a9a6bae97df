#!/usr/bin/env bash
# Lets go fix write the newer way where the language has one. omitzero is left out: it would change the JSON of the API.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go fix -omitzero=false -tags=integration ./...
