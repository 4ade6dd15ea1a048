#!/usr/bin/env bash
# The wheels of a GitHub release, one file of which belongs to each file of an index.
#
#   publish-release.sh fetch TAG FOLDER    download what was published before (nothing, the first time)
#   publish-release.sh upload TAG SITE     add the wheels of an index, with what stands beside them
#
# A wheel below SITE that its index does not list has failed a verification: it is not added, and taken out of the
# release if it was added before.
#
# Needs the program gh with a token in GH_TOKEN: to read for fetch, to write contents for upload.
set -euo pipefail

if [ $# -ne 3 ]; then
  echo "usage: publish-release.sh fetch|upload TAG FOLDER" >&2
  exit 2
fi
action="$1" tag="$2" folder="$3"

exists() { gh release view "$tag" --json tagName >/dev/null 2>&1; }

case "$action" in
fetch)
  mkdir -p "$folder"
  if exists; then
    gh release download "$tag" --dir "$folder" --clobber --pattern '*.whl' --pattern '*.whl.*'
  else
    echo "There is no release $tag yet."
  fi
  ;;
upload)
  shopt -s globstar nullglob
  files=() withdrawn=()
  for wheel in "$folder"/**/*.whl; do
    if grep -qF ">${wheel##*/}</a>" "${wheel%/*}/index.html" 2>/dev/null; then
      files+=("$wheel" "$wheel".*)
    else
      withdrawn+=("${wheel##*/}")
    fi
  done
  if [ "${#files[@]}" -eq 0 ]; then
    echo "There is no wheel in the index of $folder." >&2
    exit 1
  fi
  if ! exists; then
    gh release create "$tag" --title "$tag" --latest=false \
      --notes "Wheels built ahead, with their records and proofs. Install from the index, or with sagefix."
  elif [ "${#withdrawn[@]}" -gt 0 ]; then
    assets="$(gh release view "$tag" --json assets --jq '.assets[].name')"
    for name in "${withdrawn[@]}"; do
      echo "$name is not in the index: it failed a verification."
      while IFS= read -r asset; do
        case "$asset" in "$name" | "$name".*) gh release delete-asset "$tag" "$asset" --yes ;; esac
      done <<<"$assets"
    done
  fi
  gh release upload "$tag" --clobber "${files[@]}"
  ;;
*)
  echo "publish-release.sh: $action is neither fetch nor upload" >&2
  exit 2
  ;;
esac
