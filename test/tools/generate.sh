#!/usr/bin/env bash
# Usage: generate.sh CONTROLLER_GEN [--check]
#
# Writes what is generated from the types in api/: deep copies, apply configurations, CRDs and their reference page; from
# config/: the bundle for OLM; and from the programs: the page of their metrics. With --check nothing is written; it shows how the files differ from what would be written, and fails
# if they do.
#
# Everything is generated from nothing in a copy of the tree, so that a file which is no longer generated is noticed,
# and a generator that fails leaves the tree as it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
controller_gen=$1
check=${2:-}

generated=(api/v1alpha1/zz_generated.deepcopy.go api/applyconfiguration config/crd/bases bundle bundle.Dockerfile
  docs/api.md docs/metrics.md)

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
cp -R go.mod go.sum api config "$fresh"
(
  cd "$fresh"
  rm -rf "${generated[@]}"
  "$controller_gen" object applyconfiguration crd paths=./api/v1alpha1 output:crd:dir=config/crd/bases
)
"${GO:-go}" run ./test/bundle/write "$fresh"
mkdir "$fresh/docs"
"${GO:-go}" -C test/tools/crd-ref-docs tool crd-ref-docs --log-level=ERROR --renderer=markdown --config="$PWD/test/tools/crd-ref-docs/config.yaml" \
  --source-path="$fresh/api/v1alpha1" --output-path="$fresh/docs/api.md"
# Markers without a value are written as maps, and lines of cells end in breaks.
sed -i -E 's/(Required|Optional): \\\{\\\}/\1/; s/ ?<br \/> \|$/ |/; s/^# API Reference$/# API reference/' "$fresh/docs/api.md"
"${GO:-go}" run ./test/docs/metrics >"$fresh/docs/metrics.md"

status=0
for path in "${generated[@]}"; do
  if [[ $check == --check ]]; then
    diff -ruN "$path" "$fresh/$path" || status=1
  else
    rm -rf "$path"
    mkdir -p "$(dirname "$path")"
    cp -R "$fresh/$path" "$path"
  fi
done
if ((status)); then
  echo 'generated files are stale: run make generate and commit what it changes' >&2
fi
exit $status
