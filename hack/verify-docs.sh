#!/usr/bin/env bash
# docs/reference/<program>.txt is what the program says to --help, and links between the documents lead somewhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
failed=0
make build >/dev/null
for app in cmd/*/app; do # corepipe has none: people do not run it
  program=$(basename "$(dirname "$app")")
  diff -u "docs/reference/$program.txt" <(hack/reference.sh "$program") ||
    { echo "docs/reference/$program.txt is not what $program --help says: make update-docs" >&2; failed=1; }
done

# [text](path), [text](path#anchor): the path is relative to the document. Addresses (https:, mailto:) are not asked.
while IFS=: read -r document link; do
  target=${link#*](}
  target=${target%%[)# ]*}
  [[ -z $target || $target == *:* ]] || [ -e "$(dirname "$document")/$target" ] ||
    { echo "$document: link to $target, which does not exist" >&2; failed=1; }
done < <(git ls-files --cached --others --exclude-standard '*.md' | xargs grep -HoE '\]\([^)]+\)' || true)
exit "$failed"
