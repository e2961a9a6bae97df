#!/usr/bin/env bash
# Generates deepcopy functions, OpenAPI definitions and the typed client from pkg/apis.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
codegen=$(go list -m -f '{{.Dir}}' k8s.io/code-generator)
# The generators are built from the module cache, with the versions of their own go.mod.
# shellcheck source=/dev/null
source "$codegen/kube_codegen.sh"

boilerplate=hack/boilerplate.go.txt
kube::codegen::gen_helpers --boilerplate "$boilerplate" pkg/apis
kube::codegen::gen_openapi --boilerplate "$boilerplate" \
  --output-dir pkg/generated/openapi --output-pkg example.io/coredump/pkg/generated/openapi \
  --output-model-name-file zz_generated.model_name.go \
  --report-filename hack/api-violations.list --update-report \
  pkg/apis
kube::codegen::gen_client --boilerplate "$boilerplate" --with-watch \
  --output-dir pkg/generated --output-pkg example.io/coredump/pkg/generated \
  pkg/apis
